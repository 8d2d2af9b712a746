"""Report on a sweep, a fine-tuned model or a saved head: one HTML file of pictures, charts and their numbers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.pages import html
from featurestore.system.files import check_writable
from featurestore.system.progress import Progress, reporting
from featurestore.system.results import Result, plain
from heads.console import evaluated, text
from heads.evaluation.curves import Rates, Reliability
from heads.metrics.evaluation import Evaluated
from heads.reporting.chart import Chart
from heads.reporting.charts import draw_all
from heads.reporting.findings import Findings, class_counts, gather
from heads.reporting.pictures import SHOWN, show
from heads.reporting.png import png_renderer, write_png
from heads.reporting.provenance import commands
from heads.reporting.run_folder import RunFolder, open_run

_LEADERS = 15


@dataclass(frozen=True, repr=False)
class Report(Result):
    """What :func:`report` wrote, and what the page shows.

    Attributes:
        path: the page.
        bytes: its size.
        charts: names of its charts.
        png: files of the charts.
        evaluation: the head's metrics; None where they are not known.
        calibration: how reliable its probabilities are, by what they are called.
        rates: its rates at each threshold, if there are two classes.
        base: accuracy of an answer that is always the largest class.
        mistakes: rows with a wrong answer, the most confident first: ``row, id, true, predicted, probability``.
        alike: near-duplicates: ``images`` (two rows), ``similarity``, whether ``classes differ`` and ``splits differ``.
        suspects: rows whose label their neighbours contradict: ``row, id, class, split, neighbours, share``.
        origin: what the head was made with: pairs of a name and a text.
        commands: the commands that make it again.
        notes: sentences about how the rest was found.
        groups: how many ``groups`` the source has named, rows of the ``largest``, rows ``without`` one, and groups that
            are ``divided`` between splits; None without groups.
    """

    path: str
    bytes: int
    charts: list[str]
    png: list[str]
    evaluation: Evaluated | None
    calibration: dict[str, Reliability]
    rates: Rates | None
    base: float | None
    mistakes: list[dict[str, Any]]
    alike: list[dict[str, Any]]
    suspects: list[dict[str, Any]]
    origin: list[list[str]]
    commands: list[str]
    notes: list[str]
    groups: dict[str, int] | None = None


def report(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] = "report.html",
    *,
    features: str | os.PathLike[str] | None = None,
    source: str | os.PathLike[str] | None = None,
    explain: bool = False,
    png: str | os.PathLike[str] | None = None,
    progress: bool | Progress = True,
) -> Report:
    """Write what is known about a sweep or a head to one HTML file that opens from disk.

    The head's answers are those on the test rows (without any: validation or train rows). What was measured
    there before is taken over.

    Args:
        path: folder of a sweep, of a fine-tuned model, or of a saved head.
        out: the file.
        features: feature file, or folder; by default that of the sweep, unless that is an address. Without it, the
            page has less to show.
        source: what was extracted (the folder, CSV, ``.npz``, tar, …), for pictures.
        explain: also draw, beside each mistake whose picture is shown, which places speak for the class that was
            predicted and for the true one, see :func:`heads.explain`. The backbone is built for it, which takes
            seconds. Where that cannot be, a note says why.
        png: folder for each chart as a PNG file.
        progress: see :func:`featurestore.system.progress.reporting`.

    Raises:
        HeadError: neither a sweep that is finished nor a saved head; or the features are of classes it does not know.
        SpecMismatchError: other features than those that the head was fitted on.
        WriteError: the page cannot be written; this is found before the work.
        MissingDependencyError: `png`, and its extra is not installed.

    Example:
        >>> page = report("head", "page.html", features="digits.h5", progress=False)
        >>> page.charts
        ['classes', 'confusion', 'reliability', 'map']
        >>> page.evaluation.rows
        120
    """
    file, run = Path(out), open_run(Path(path))
    check_writable(file)
    if png is not None:
        png_renderer()
    given = features or run.features
    findings = gather(run, given, required=features is not None)
    with reporting(progress) as update:
        shown, notes = show(findings, source, update, explain=explain)
    again = commands(run, str(given or "FEATURES"), findings.stores, str(source or "SOURCE"))
    findings = replace(findings, notes=[*findings.notes, *notes], commands=again)
    sections = draw_all(findings)
    drawn = [chart for charts in sections.values() for chart in charts]
    _write_page(file, findings, sections, shown)
    files = write_png(drawn, Path(png)) if png is not None else []
    return Report(
        str(file), file.stat().st_size, [chart.id for chart in drawn], files, findings.evaluation,
        findings.calibration, findings.rates, findings.base, findings.mistakes, findings.alike, findings.suspects,
        findings.origin, findings.commands, findings.notes, findings.groups,
    )  # fmt: skip


def _write_page(
    file: Path, findings: Findings, sections: Mapping[str, Sequence[Chart]], shown: Mapping[str, Any]
) -> None:
    """Write the page; `shown` is what its sections with pictures list."""
    run, stores = findings.run, findings.stores
    html.write(
        file, "report.html", "heads.reporting", facts=findings, charts=sections, shown=shown, run=run,
        sweep=run.sweep, store=stores[0] if stores else None,
        classes=class_counts(findings.answers.table) if findings.answers else [], leaders=_leaders(run),
        several=len({trial.features for trial in run.trials}) > 1,
        halved=any(trial.part for trial in run.trials) and max(trial.rows for trial in run.trials), most=SHOWN,
        thresholds=evaluated.threshold(plain(findings.of_classes) or {}), headline=_headline(findings),
        task=run.fitted.head.task_, head=text.design(run.fitted.to_dict()),
    )  # fmt: skip


def _headline(findings: Findings) -> str | None:
    """Return the name of the metric that stands at the top of a page; None where none is known."""
    known = findings.evaluation.metrics() if findings.evaluation else {}
    return next((name for name in findings.run.fitted.head.task_.metrics if name in known), None)


def _leaders(run: RunFolder) -> list[dict[str, Any]]:
    """Return the best heads of a sweep, and its winner."""
    return [
        {"place": place, "chosen": trial is run.winner, "head": text.design(trial.to_dict()["design"]), "trial": trial}
        for place, trial in enumerate(run.trials, 1)
        if np.isfinite(trial.mean) and (place <= _LEADERS or trial is run.winner)
    ]
