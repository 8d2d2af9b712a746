"""Labels that heads contradict which were not fitted to them.

Each row's probabilities come from a head that was fitted to the other folds. A class has a threshold: the mean
probability of it among the rows that are labelled so. A row that reaches the threshold of another class, and of none
with a greater probability, is counted there; where that is not its label, the label is doubtful. (Northcutt, Jiang &
Chuang, "Confident learning: estimating uncertainty in dataset labels", Journal of Artificial Intelligence Research
2021.) The rows with the greatest difference between that class and the label stand first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heads.curating.question import Question
from heads.feature_table import FeatureTable, Labels
from heads.kinds.design import HeadDesign, head_class
from heads.search.held_out import Held, best_held, divided
from heads.solvers.calibration import fit_temperature
from heads.solvers.scores import softmax
from heads.tasks.registry import check_one_class

_FOLDS = 5
_METRIC = "log_loss"
"""Confidence is asked for, and not only the class."""


class Issue(NamedTuple):
    """A doubtful label: the row, its probability, the class that is likelier, and its probability."""

    row: int
    own: float
    suggested: int
    other: float


class Issues(NamedTuple):
    """Doubtful labels, the most doubtful first, and the number of rows that were judged."""

    issues: list[Issue]
    rows: int


def confident_joint(y: Labels, proba: NDArray[np.floating]) -> Labels:
    """Return the class that each row is counted in by confident learning; -1 where it reaches no threshold (N,).

    Args:
        y: labels 0..C-1 (N,); in a class that does not occur, no row is counted.
        proba: probabilities of rows that were not fitted to (N, C).

    Example:
        >>> import numpy as np
        >>> proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95]])
        >>> confident_joint(np.array([0, 0, 1, 1, 0]), proba).tolist()
        [0, 0, 1, -1, 1]
    """
    each = np.arange(len(y))
    rows = np.bincount(y, minlength=proba.shape[1])
    threshold = np.bincount(y, proba[each, y], minlength=len(rows)) / np.maximum(rows, 1)
    threshold[rows == 0] = np.inf
    reached = np.where(proba >= threshold, proba, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached[each, best] >= 0, best, -1)


def label_issues(question: Question) -> Issues:
    """Find doubtful labels among the rows of all splits.

    Raises:
        HeadError: a single class, or too few rows of each to hold some out.
    """
    rows = question.rows()
    held = out_of_fold(question.table, rows, question.designs, question)
    proba = probabilities(held)
    counted = confident_joint(held.codes, proba)
    places = np.flatnonzero((counted >= 0) & (counted != held.codes))
    own, other = proba[places, held.codes[places]], proba[places, counted[places]]
    order = np.argsort(own - other, kind="stable")
    found = [
        Issue(int(held.rows[places[i]]), float(own[i]), int(held.classes[counted[places[i]]]), float(other[i]))
        for i in order.tolist()
    ]
    if left := len(rows) - len(held.rows):
        question.note(f"{left} rows are not judged: no other images of their class, or too many of them")
    return Issues(found, len(held.rows))


def out_of_fold(table: FeatureTable, rows: Labels, designs: Sequence[HeadDesign], question: Question) -> Held:
    """Return what the best of some designs gives on each row, fitted to the rows of the other folds."""
    check_one_class(table.task, table.path, "a doubt about labels")
    splits = np.full(len(table.y), "", "U5")
    splits[rows] = "train"
    most = int(np.bincount(table.y[rows]).max(initial=0))
    return best_held(
        divided(table, splits), designs, min(_FOLDS, max(most, 2)), _METRIC, seed=question.seed,
        max_memory=question.max_memory,
    )  # fmt: skip


def probabilities(held: Held) -> NDArray[np.float64]:
    """Return probabilities (J, C) of held-out rows, of one temperature."""
    if head_class(held.trial.design.kind).scores_are_probabilities:
        return np.asarray(held.scores, np.float64)
    return np.asarray(softmax(held.scores / fit_temperature(held.scores, held.codes)), np.float64)
