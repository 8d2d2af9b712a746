"""Put thumbnails of rows, and maps of classes, beside the words of a report's sections."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from featurestore.errors import FeatureStoreError
from featurestore.system.progress import Progress
from heads.curating.pictures import Pictures
from heads.explaining.explain import explained_rows
from heads.explaining.explainer import Explainer
from heads.reporting.findings import Findings, answer

Mistakes = Sequence[dict[str, Any]]
"""Rows with a wrong answer, as :attr:`heads.reporting.findings.Findings.mistakes` describes them."""

SHOWN = 24
"""Pictures, pairs or rows that a section of the page shows, at most."""

MEANING = (
    "Beside a mistake are maps of the class that was predicted and of the true one: red places speak for it, blue ones "
    "against it."
)


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
    pictures = Pictures(findings.stores[0], source, progress) if findings.stores and source else None
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
             [f"says {m['predicted']}{_certain(m)}", f"labelled {m['true']}", m["id"]])
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
    findings: Findings, pictures: Pictures | None, mistakes: Mistakes
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
    rows = [each["row"] for each in mistakes]
    classes = [[each["predicted"], each["true"]] for each in mistakes]
    wanted = pictures.wanted(rows, numeric=bool(findings.run.fitted.numeric))
    found = {}
    for row, maps in zip(rows, explained_rows(explainer, wanted, classes), strict=True):
        found[row] = maps
        pictures.report("explaining", len(found), len(rows))
    return found, [MEANING, *explainer.notes], []


def _certain(mistake: dict[str, Any]) -> str:
    return f" ({mistake['probability']:.3f})" if "probability" in mistake else ""


def _notes(findings: Findings, pictures: Pictures | None) -> list[str]:
    if pictures and pictures.failures:
        path, reason = pictures.failures[0]
        return [f"{len(pictures.failures)} pictures cannot be shown, the first is {path}: {reason}."]
    if not pictures and findings.answers:
        return ["Pictures are left out: --source FOLDER, the folder that was extracted, adds them."]
    return []
