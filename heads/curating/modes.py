"""The modes of ``look-at``: each is a function from a question to an answer, and a line in :data:`MODES`."""

import tempfile
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featurestore.errors import HeadError
from featurestore.store.reader import FeatureStore
from heads.curating.audit import NEIGHBOURS, alike_pairs, near_duplicates
from heads.curating.doubts import label_issues
from heads.curating.label_next import label_next
from heads.curating.question import Answer, Lines, Question
from heads.curating.unlabelled import table_of

_SUGGESTED = 2000
"""Ids among which a message looks for alike ones, at most."""


class Mode(NamedTuple):
    """A mode.

    Attributes:
        answer: from the question to the answer.
        score: what its score is.
        options: options of the command that it takes, and others do not.
    """

    answer: Callable[[Question], Answer]
    score: str
    options: tuple[str, ...] = ()


def neighbours(question: Question) -> Answer:
    """Find the rows that are most alike to an image, or to a row, which is named by its id, path or number.

    Raises:
        HeadError: no such row, and no such image.
    """
    if question.to is None:
        raise HeadError("--to: say whose neighbours are looked for: the id of a row, or an image file")
    table, likeness = question.table, question.likeness()
    row = _row(question, question.to)
    if row is not None:
        X = table.images.read(np.array([row]), np.arange(0))
    elif Path(question.to).is_file():
        with tempfile.TemporaryDirectory() as store:
            one = table_of(question.to, table.images, Path(store), progress=None, note=question.note)
            X = np.array(one.read(np.arange(1), np.arange(0)))
    else:
        near = get_close_matches(question.to, table.ids[:_SUGGESTED].tolist(), 3, 0.5) or table.ids[:3].tolist()
        raise HeadError(f"{table.path}: no row is called {question.to!r}, and no image file: give one such as "
                        f"{', '.join(map(repr, near))}")  # fmt: skip
    places, cosine = likeness.nearest_to(X, question.count + 1)
    lines, name = Lines(table), question.to if row is None else str(table.ids[row])
    for place, value in zip(places[0].tolist(), cosine[0].tolist(), strict=True):
        if place != row and len(lines.looks) < question.count:
            why = f"cosine {value:.3f} with {name}" + ("" if row is None else f", {lines.name(row)}")
            lines.add(place, value, why, other=row)
    return lines.answer(len(lines.looks), len(table.y))


def _row(question: Question, name: str) -> int | None:
    """Return the row with an id or a path, or of a number where no row is called so; None for none."""
    table = question.table
    for column in (table.ids, FeatureStore(table.files[0]).paths):
        if len(found := np.flatnonzero(column == name)):
            return int(found[0])
    return int(name) if name.isdecimal() and int(name) < len(table.y) else None


def duplicates(question: Question) -> Answer:
    """Find pairs of near-duplicates, first those under two classes, then those in two splits."""
    table, likeness = question.table, question.likeness()
    pairs = alike_pairs(table, near_duplicates(*likeness.nearest(NEIGHBOURS)))
    lines = Lines(table)
    for pair in pairs[: question.count]:
        one, other = pair["images"]
        parts = [f"cosine {pair['similarity']:.3f}"]
        parts += [f"under two classes: {one['class']} and {other['class']}"] if pair["classes differ"] else []
        parts += [f"in two splits: {one['split']} and {other['split']}"] if pair["splits differ"] else []
        lines.add(one["row"], pair["similarity"], ", ".join(parts), other=other["row"])
    return lines.answer(len(pairs), len(table.y))


def doubtful_labels(question: Question) -> Answer:
    """Find labels that heads contradict which were not fitted to them, see :mod:`heads.curating.doubts`."""
    found = label_issues(question)
    lines = Lines(question.table)
    for each in found.issues[: question.count]:
        name = question.table.class_names[each.suggested]
        why = f"{each.other:.3f} for {name}, {each.own:.3f} for its label, by a head that was not fitted to it"
        lines.add(each.row, each.other - each.own, why, label=name)
    return lines.answer(len(found.issues), found.rows)


def outliers(question: Question) -> Answer:
    """Find rows that are far from all others, by the distance (1 - cosine) to the tenth nearest.

    (Ramaswamy, Rastogi & Shim, "Efficient algorithms for mining outliers from large data sets", SIGMOD 2000.)
    """
    table, likeness = question.table, question.likeness()
    near, cosine = likeness.nearest(NEIGHBOURS)
    distance, k = 1 - cosine[:, -1], near.shape[1]
    usual = float(np.median(distance))
    lines = Lines(table)
    for row in np.argsort(-distance, kind="stable")[: question.count].tolist():
        why = f"distance to the {k}th nearest image {distance[row]:.3f}, of half of all images at most {usual:.3f}"
        lines.add(row, float(distance[row]), why, other=int(near[row, 0]))
    return lines.answer(len(table.y), len(table.y))


MODES: Mapping[str, Mode] = {
    "neighbours": Mode(neighbours, "cosine with the image that is asked for", ("to",)),
    "near-duplicates": Mode(duplicates, "cosine of both images"),
    "doubtful-labels": Mode(
        doubtful_labels, "probability of the other class less that of the label", ("unlabelled_class",)
    ),
    "outliers": Mode(outliers, "distance (1 - cosine) to the tenth nearest image"),
    "label-next": Mode(label_next, "margin of the two greatest probabilities", ("pool", "unlabelled_class")),
}
"""Name of a mode -> what answers it."""
