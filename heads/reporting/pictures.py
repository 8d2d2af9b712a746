"""Take thumbnails of rows from where they were extracted, and put them beside the words of a report's sections.

Where it is asked for, each mistake has maps too, of the places that speak for the predicted class and for the true one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from featurestore.errors import FeatureStoreError, ImageError
from featurestore.pages.inspection import looks
from featurestore.sources.opener import source_of
from featurestore.sources.samples import Dataset
from featurestore.store.file_format import TABULAR
from featurestore.store.reader import FeatureStore
from featurestore.system.progress import Progress
from heads.explaining.explain import explained_rows
from heads.explaining.explainer import Explainer
from heads.prediction.inputs import Wanted
from heads.reporting.findings import Findings, answer
from heads.storage.fitted_head import FittedHead

Mistakes = Sequence[dict[str, Any]]
"""Rows with a wrong answer, as :attr:`heads.reporting.findings.Findings.mistakes` describes them."""

SHOWN = 24
"""Pictures, pairs or rows that a section of the page shows, at most."""

MEANING = (
    "Beside a mistake are maps of the class that was predicted and of the true one: red places speak for it, blue ones "
    "against it."
)

_SIZED = 400
"""Images whose sizes are taken; of larger sets, those with the least digests."""


class _Pictures:
    """Images of rows.

    Args:
        store: the feature file of the rows.
        source: what was extracted.
        progress: is told how many images were read.

    Attributes:
        failures: path and reason of each that is gone, changed or cannot be read.
    """

    def __init__(self, store: FeatureStore, source: Any, progress: Progress | None) -> None:
        empty = Dataset(name=store.dataset, class_names=store.class_names, samples=[])
        self._source = source_of(source, empty)
        self._store, self._report = store, progress or (lambda stage, done, total: None)
        self.failures: list[tuple[str, str]] = []

    def take(self, rows: Sequence[int]) -> tuple[dict[int, dict[str, str]], list[tuple[int, int]]]:
        """Return thumbnails of rows, and sizes of these and of some others."""
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

    def maps(self, fitted: FittedHead, explainer: Explainer, mistakes: Mistakes) -> dict[int, list[dict[str, str]]]:
        """Return by row the maps of the predicted and of the true class of mistakes."""
        rows = [each["row"] for each in mistakes]
        classes = [[each["predicted"], each["true"]] for each in mistakes]
        numbers = self._store.features(TABULAR)[rows] if fitted.numeric else np.zeros((len(rows), 0))
        wanted = [
            Wanted(sample.path or sample.id, tuple(values.tolist()), self._source, sample)
            for sample, values in zip(self._store.samples(rows), numbers, strict=True)
        ]
        found = {}
        for row, maps in zip(rows, explained_rows(explainer, wanted, classes), strict=True):
            found[row] = maps
            self._report("explaining", len(found), len(rows))
        return found


def show(
    findings: Findings, source: Any, progress: Progress | None, *, explain: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Return what the sections with pictures list, as pairs of pictures and words; and notes on missing pictures.

    Args:
        findings: what is shown.
        source: what was extracted, or None: there are no pictures then.
        progress: is told how many images were read.
        explain: whether mistakes have maps beside their pictures.
    """
    pictures = _Pictures(findings.stores[0], source, progress) if findings.stores and source else None
    grid: list[dict[str, Any]] = []
    if judged := findings.answers:
        order = np.argsort(judged.table.digests[judged.rows], kind="stable")
        grid = [answer(judged, i) for i in order[:SHOWN].tolist()]
    mistakes, alike, suspects = (each[:SHOWN] for each in (findings.mistakes, findings.alike, findings.suspects))
    rows = [each["row"] for each in (*mistakes, *grid, *suspects)] + [s["row"] for p in alike for s in p["images"]]
    found, sizes = pictures.take(rows) if pictures else ({}, [])
    why, about, notes = (
        _why(findings, pictures, [m for m in mistakes if m["row"] in found]) if explain else ({}, [], [])
    )

    def seen(*some: int) -> list[dict[str, str]]:
        return [found[row] for row in some if row in found]

    return {
        "sizes": np.array(sizes),
        "sides": np.quantile(sizes or [(0, 0)], [0, 0.5, 1], axis=0).astype(int).T.tolist(),
        "grid": [each | {"picture": seen(each["row"])} for each in grid] if found else [],
        "mistakes": [
            (seen(m["row"]) + why.get(m["row"], []),
             [f"says {m['predicted']} ({m['probability']:.3f})", f"labelled {m['true']}", m["id"]])
            for m in mistakes
        ],
        "why": about,
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
    }, _notes(findings, pictures) + notes  # fmt: skip


def _why(
    findings: Findings, pictures: _Pictures | None, mistakes: Mistakes
) -> tuple[dict[int, list[dict[str, str]]], list[str], list[str]]:
    """Return by row the maps of mistakes, sentences about them, and notes on why there are none."""
    if pictures is None:
        return {}, [], ["Maps are left out: --explain needs --source, the folder that was extracted."]
    if not mistakes:
        return {}, [], []
    try:
        explainer = Explainer(findings.run.fitted)
    except FeatureStoreError as error:
        return {}, [], [f"Maps are left out: {error}."]
    return pictures.maps(findings.run.fitted, explainer, mistakes), [MEANING, *explainer.notes], []


def _notes(findings: Findings, pictures: _Pictures | None) -> list[str]:
    if pictures and pictures.failures:
        path, reason = pictures.failures[0]
        return [f"{len(pictures.failures)} pictures cannot be shown, the first is {path}: {reason}."]
    if not pictures and findings.answers:
        return ["Pictures are left out: --source FOLDER, the folder that was extracted, adds them."]
    return []
