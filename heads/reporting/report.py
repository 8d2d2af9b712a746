"""A report of a sweep, a fine-tuned model or a saved head: one HTML file of pictures, charts and their numbers."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.errors import FeatureStoreError, ImageError, missing
from featurestore.pages import html
from featurestore.pages.inspection import looks
from featurestore.sources.base import FileSource, Source
from featurestore.sources.opener import open_source
from featurestore.sources.samples import Dataset
from featurestore.store.reader import FeatureStore
from featurestore.system.files import check_writable, write_whole
from heads.console import text
from heads.evaluation.audit import Audit, audit, reliability, thresholds
from heads.evaluation.evaluate import Answers, Evaluation, answers
from heads.feature_table import FeatureTable
from heads.reporting import charts
from heads.reporting.provenance import commands, origin
from heads.reporting.run_folder import Run, open_run
from heads.storage.saved_head import FittedHead

SHOWN = 24
"""Pictures, pairs or rows that a section of the page shows, at most."""

_SIZED = 400
"""Images whose sizes are taken; of larger sets, those with the least digests."""
_LEADERS = 15
_SPLITS = ("test", "validation", "train")
_PIXELS = 2.0
"""Of a PNG file, for each unit of its drawing."""

Progress = Callable[[str, int, int], None]


def report(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] = "report.html",
    *,
    features: str | os.PathLike[str] | None = None,
    source: str | os.PathLike[str] | None = None,
    png: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write what is known about a sweep or a head to one HTML file that opens from disk.

    The head's answers are those on the test rows (without any: validation or train rows). What was measured
    there before is taken over.

    Args:
        path: folder of a sweep, of a fine-tuned model, or of a saved head.
        out: the file.
        features: feature file, or folder; by default that of the sweep, unless that is an address. Without it, the
            page has less to show.
        source: folder of the images (or ``.npz``, or CSV beside them) that were extracted, for pictures.
        png: folder for each chart as a PNG file.
        progress: called as progress(stage, done, total).

    Returns:
        Plain JSON types: ``path``, ``bytes``, ``charts`` (their names), ``png`` (files), ``evaluation`` (or None),
        ``calibration`` (per kind of probabilities, see :func:`heads.evaluation.audit.reliability`), ``mistakes``,
        ``alike``, ``suspects``, ``origin``, ``commands`` and ``notes``.

    Raises:
        HeadError: neither a sweep that is finished nor a saved head; or the features are of classes it does not know.
        SpecMismatchError: other features than those that the head was fitted on.
        WriteError: the page cannot be written; said before the work.
        MissingDependencyError: `png`, and its extra is not installed.
    """
    file, run, notes = Path(out), open_run(Path(path)), list[str]()
    check_writable(file)
    if png is not None:
        _png_renderer()
    given = features or run.features
    judged = _answers(run.fitted, given, features is not None, notes)
    stores = [FeatureStore(each) for each in dict.fromkeys(judged.table.files)] if judged else []
    facts = _facts(run, judged, notes)
    seen = _audit(judged.table) if judged else None
    pictures = _Pictures(judged.table, stores[0], source, progress) if judged and source else None
    facts["mistakes"] = _mistakes(judged) if judged else []
    facts |= _doubts(judged.table, seen) if judged and seen else {"alike": [], "suspects": []}
    facts["origin"] = origin(run, stores)
    facts["commands"] = commands(run, str(given or "FEATURES"), stores, str(source or "SOURCE"))
    drawn = _charts(run, facts, judged, seen)
    shown = _show(facts, judged, pictures, notes)
    html.write(
        file, "report.html", facts=facts, charts={chart.id: chart for chart in drawn}, shown=shown, run=run,
        store=stores[0] if stores else None, classes=_class_counts(judged.table) if judged else [],
        leaders=_leaders(run), several=len({trial.features for trial in run.trials}) > 1, most=SHOWN, notes=notes,
        thresholds=text.threshold(facts["evaluation"] or {}), compared=len(seen.rows) if seen else 0,
        head=text.design(run.fitted.to_dict()),
    )  # fmt: skip
    files = _write_png(drawn, Path(png)) if png is not None else []
    result = {"path": str(file), "bytes": file.stat().st_size, "charts": [chart.id for chart in drawn], "png": files}
    return result | facts | {"notes": notes}


def _answers(fitted: FittedHead, features: Any, asked: bool, notes: list[str]) -> Answers | None:
    """The head's answers; None, with a note, where the features are not to be had and nobody named them."""
    if features is None:
        notes.append("No feature file was given: --features FILE adds what the rows show.")
        return None
    split = next((split for split in _SPLITS if fitted.rows.get(split)), "test")
    try:
        return answers(fitted, features, split)
    except FeatureStoreError as error:
        if asked:
            raise
        notes.append(f"Without the features there is less to show: {error}")
        return None


def _facts(run: Run, judged: Answers | None, notes: list[str]) -> dict[str, Any]:
    """Evaluation and calibration."""
    known = run.measured
    if judged is None:
        return {"evaluation": known and known.to_dict(), "calibration": {}, "rates": None, "base": None}
    split = judged.split
    if known and _same_answers(judged.measured(None), known):
        notes.append("The test rows were measured before; here they are drawn, and nothing is chosen by them.")
        found = known
    else:
        found = judged.measured(run.fitted.path)
        if known:
            notes.append("The test rows of this feature file are not those that were measured before: measured anew.")
    if split != "test":
        notes.append(f"There are no test rows: the head is judged on the {split} rows.")
    if judged.seen:
        notes.append(f"{text.seen(judged.seen)} The figures say little about other images.")
    if judged.left_out:
        notes.append(f"{judged.left_out} {split} rows are left out: the head was fitted on them.")
    plain, outcomes = judged.uncalibrated(), judged.outcomes
    named = {"probabilities": outcomes} if plain is None else {"calibrated": outcomes, "before": plain}
    both = outcomes.classes == 2 and len(np.unique(outcomes.y)) == 2
    return {
        "evaluation": found.to_dict(),
        "calibration": {name: reliability(each) for name, each in named.items()},
        "rates": thresholds(outcomes.y, outcomes.two_columns) if both else None,
        "base": float(np.bincount(outcomes.y).max() / len(outcomes.y)),
    }


def _same_answers(one: Evaluation, other: Evaluation) -> bool:
    if one.confusion_matrix is None:  # of so many classes there is no matrix
        return one.per_class == other.per_class and one.confused == other.confused
    return one.confusion_matrix == other.confusion_matrix


def _audit(table: FeatureTable) -> Audit:
    with table.named():
        return audit(table)


def _mistakes(judged: Answers) -> list[dict[str, Any]]:
    """Rows with a wrong answer, the most confident first."""
    wrong = np.flatnonzero(~judged.outcomes.right)
    order = np.argsort(-judged.outcomes.greatest[wrong], kind="stable")
    return [_answer(judged, i) for i in wrong[order].tolist()]


def _answer(judged: Answers, i: int) -> dict[str, Any]:
    names, row, outcomes = judged.fitted.class_names, int(judged.rows[i]), judged.outcomes
    return {
        "row": row, "id": str(judged.table.ids[row]), "true": names[outcomes.y[i]],
        "predicted": names[outcomes.predicted[i]], "probability": float(outcomes.greatest[i]),
    }  # fmt: skip


def _doubts(table: FeatureTable, seen: Audit) -> dict[str, list[dict[str, Any]]]:
    """Near-duplicates, those that matter most first, and suspect labels."""
    names = table.class_names

    def side(row: int) -> dict[str, Any]:
        return {"row": row, "id": str(table.ids[row]), "class": names[table.y[row]], "split": str(table.splits[row])}

    alike: list[dict[str, Any]] = [
        {"images": [side(i), side(j)], "similarity": cosine,
         "classes differ": bool(table.y[i] != table.y[j]), "splits differ": bool(table.splits[i] != table.splits[j])}
        for i, j, cosine in seen.alike
    ]  # fmt: skip
    return {
        "alike": sorted(alike, key=lambda pair: (not pair["classes differ"], not pair["splits differ"])),
        "suspects": [side(row) | {"neighbours": names[label], "share": share} for row, label, share in seen.suspects],
    }


def _class_counts(table: FeatureTable) -> list[tuple[str, dict[str, int]]]:
    """Rows of each class in each split, the largest class first."""
    there = [split for split in (*reversed(_SPLITS), "duplicate") if (table.splits == split).any()]
    counts = {s: np.bincount(table.y[table.splits == s], minlength=len(table.class_names)) for s in there}
    found = [(name, {s: int(counts[s][i]) for s in there}) for i, name in enumerate(table.class_names)]
    return sorted(found, key=lambda item: (-sum(item[1].values()), item[0]))


def _leaders(run: Run) -> list[dict[str, Any]]:
    """The best heads of a sweep, and its winner."""
    return [
        {"place": place, "chosen": trial is run.winner, "head": text.design(trial.to_dict()["design"]), "trial": trial}
        for place, trial in enumerate(run.trials, 1)
        if np.isfinite(trial.mean) and (place <= _LEADERS or trial is run.winner)
    ]


def _charts(run: Run, facts: Mapping[str, Any], judged: Answers | None, seen: Audit | None) -> list[charts.Chart]:
    drawn: list[charts.Chart] = []
    if run.sweep and run.winner:
        drawn.append(charts.leaderboard(run.trials, run.winner, run.sweep["settings"]["metric"]))
    curves = {text.design(t.to_dict()["design"]): t.losses for t in run.trials if t.losses}
    for id, title, losses, note in (
        ("dense", "Dense nets of the sweep", curves, "Log loss after each epoch on the rows that tell when to stop."),
        (
            "history",
            "Learning curves of the head",
            run.history,
            "Log loss after each epoch; a mark: the least.",
        ),
    ):
        if any(losses.values()):
            drawn.append(charts.learning_curves({k: v for k, v in losses.items() if v}, id, title, note))
    if found := facts["evaluation"]:
        names = [entry["class"] for entry in found["per_class"]]
        drawn.append(charts.class_scores(found["per_class"]))
        if "confusion_matrix" in found:
            drawn.append(charts.confusion(found["confusion_matrix"], names))
        elif found.get("confused"):
            drawn.append(charts.mistakes(found["confused"], len(names)))
    if facts["calibration"]:
        drawn.append(charts.reliability_diagram(facts["calibration"]))
    if facts["rates"]:
        drawn += charts.rates(facts["rates"], run.fitted.class_names[1], facts["evaluation"].get("roc_auc"))
    if judged and seen:
        labels = judged.table.y[seen.rows[: len(seen.plane)]]
        drawn.append(charts.feature_map(seen.plane, labels, judged.table.class_names, seen.explained))
    return drawn


class _Pictures:
    """Images of rows, read from where they were extracted.

    Attributes:
        failures: path and reason of each that is gone, changed or cannot be read.
    """

    def __init__(self, table: FeatureTable, store: FeatureStore, source: Any, progress: Progress | None) -> None:
        folder = Path(source)
        empty = Dataset(name=table.dataset, class_names=table.class_names, samples=[])
        self._source: Source = FileSource(folder, empty) if folder.is_dir() else open_source(folder)
        self._store, self._report = store, progress or (lambda stage, done, total: None)
        self.failures: list[tuple[str, str]] = []

    def take(self, rows: Sequence[int]) -> tuple[dict[int, dict[str, str]], list[tuple[int, int]]]:
        """Thumbnails of rows, and sizes of these and of some others."""
        store = self._store
        sized = np.argsort(store.digests, kind="stable")[:_SIZED].tolist()
        wanted = list(dict.fromkeys([*rows, *sized]))
        samples = store.samples(wanted)
        shown = {str(store.digests[i]) for i in rows}
        found: dict[int, dict[str, str]] = {}
        sizes = []
        for row, (sample, look) in zip(wanted, looks(self._source, samples, shown), strict=True):
            if isinstance(look, ImageError):
                self.failures.append((sample.path or sample.id, str(look)))
                continue
            sizes.append(look[:2])
            if look[2]:
                found[row] = {"uri": look[2], "alt": f"{store.class_names[sample.label]}: {sample.id}, {sample.split}"}
            self._report("pictures", len(sizes) + len(self.failures), len(wanted))
        return found, sizes


def _show(
    facts: Mapping[str, Any], judged: Answers | None, pictures: _Pictures | None, notes: list[str]
) -> dict[str, Any]:
    """What the sections with pictures list; pairs of pictures and words."""
    grid: list[dict[str, Any]] = []
    if judged:
        order = np.argsort(judged.table.digests[judged.rows], kind="stable")
        grid = [_answer(judged, i) for i in order[:SHOWN].tolist()]
    mistakes, alike, suspects = (facts[name][:SHOWN] for name in ("mistakes", "alike", "suspects"))
    rows = [each["row"] for each in (*mistakes, *grid, *suspects)] + [s["row"] for p in alike for s in p["images"]]
    found, sizes = pictures.take(rows) if pictures else ({}, [])
    if pictures and pictures.failures:
        path, reason = pictures.failures[0]
        notes.append(f"{len(pictures.failures)} pictures cannot be shown, the first is {path}: {reason}.")
    elif not pictures and judged:
        notes.append("Pictures are left out: --source FOLDER, the folder that was extracted, adds them.")

    def seen(*some: int) -> list[dict[str, str]]:
        return [found[row] for row in some if row in found]

    return {
        "sizes": np.array(sizes),
        "sides": np.quantile(sizes or [(0, 0)], [0, 0.5, 1], axis=0).astype(int).T.tolist(),
        "grid": [each | {"picture": seen(each["row"])} for each in grid] if found else [],
        "mistakes": [
            (seen(m["row"]), [f"says {m['predicted']} ({m['probability']:.3f})", f"labelled {m['true']}", m["id"]])
            for m in mistakes
        ],
        "suspects": [
            (seen(s["row"]), [f"labelled {s['class']}", f"{s['share']:.0%} of its neighbours are {s['neighbours']}",
                              f"{s['id']} ({s['split']})"])
            for s in suspects
        ],
        "alike": [
            (seen(*(s["row"] for s in p["images"])), [f"similarity {p['similarity']:.3f}",
             *(f"{s['class']}: {s['id']} ({s['split']})" for s in p["images"])])
            for p in alike
        ],
    }  # fmt: skip


def _png_renderer() -> Any:
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise missing("--png", "resvg_py", "png") from error
    return svg_to_bytes


def _write_png(drawn: Sequence[charts.Chart], folder: Path) -> list[str]:
    """Each chart in the colours of the light page. Neither a browser nor the machine's fonts are needed."""
    render, style = _png_renderer(), html.figure_style()
    files = []
    for chart in drawn:
        svg = re.sub("^<svg", '<svg xmlns="http://www.w3.org/2000/svg"', html.printable(str(chart.svg)))
        data = render(
            svg_string=svg, style_sheet=style, background="#fff", zoom=_PIXELS, font_family=html.FONT,
            font_files=html.FONT_FILES, skip_system_fonts=html.in_our_font(svg),  # of two alike, theirs would win
        )  # fmt: skip
        file = folder / f"{chart.id}.png"
        write_whole(file, bytes(data))
        files.append(str(file))
    return files
