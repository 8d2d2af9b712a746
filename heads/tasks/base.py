"""What a task is: how answers become goals of a fit, and scores become answers, and how good these are.

All that differs between tasks stands in one object of each; no other room asks which task it has. The forms of the
goals (codes), which solvers know, are in :mod:`heads.solvers.goals`; what stage 1 knows is in
:mod:`featurestore.sources.tasks`, under the same names.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError, suggest
from heads.metrics.estimates import Estimate
from heads.metrics.evaluation import Evaluated
from heads.metrics.outcomes import blocks
from heads.rows import Codes, Labels
from heads.solvers.calibration import Calibration
from heads.tasks.predictions import Predicted

Doubles = NDArray[np.float64]
Floating = NDArray[np.floating[Any]]

SMALLER_IS_BETTER = frozenset({"log_loss", "mae", "rmse"})
"""Metrics whose smaller values are better; of all others greater ones are."""


class Link(NamedTuple):
    """How scores (N, K) become answers: ``slope * score + shift``, and what is known of these.

    Attributes:
        slope, shift: of each column, float64 (K,).
        thresholds: of labels, the probability from which on a row has one, float64 (K,).
        residuals: of numbers, the absolute differences of rows that were held out, ascending, float64 (R,).
    """

    slope: Doubles
    shift: Doubles
    thresholds: Doubles | None = None
    residuals: Doubles | None = None

    @classmethod
    def none(cls, columns: int) -> "Link":
        """Make the link that leaves scores as they are."""
        return cls(np.ones(columns), np.zeros(columns))

    def known(self) -> dict[str, Doubles]:
        """Return what is known, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    def of(self, scores: Floating) -> Doubles:
        """Return ``slope * score + shift``."""
        return np.asarray(scores * self.slope + self.shift, np.float64)

    def to_dict(self) -> dict[str, list[float]]:
        """Return plain JSON types, without what is not known."""
        return {name: value.tolist() for name, value in self.known().items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], columns: int) -> "Link":
        """Read what :meth:`to_dict` returned.

        Raises:
            ValueError: it is not of so many columns.
        """
        found = {name: np.array(values[name], np.float64) for name in cls._fields if name in values}
        if any(len(found[name]) != columns for name in ("slope", "shift", "thresholds") if name in found):
            raise ValueError("the slopes, shifts or thresholds of its answers are not those of its columns")
        if (np.diff(found.get("residuals", np.zeros(1))) < 0).any():
            raise ValueError("its residuals are not in order")
        return cls(**found)


class Bound(NamedTuple):
    """What makes answers hold at a level, by rows that were held out from the fit: conformal prediction.

    Attributes:
        level: the share of images for which the set holds the true class, or the interval the true number.
        value: of classes, the probability from which on one is in the set; of numbers, half the interval's width.
    """

    level: float
    value: float


class Encoded(NamedTuple):
    """The answers of training rows, as a fit takes them.

    Attributes:
        classes: what the columns of the scores stand for (K,).
        codes: the goals of the rows, see :mod:`heads.solvers.goals`.
        link: how scores become answers as far as the rows tell; None where the task has none.
    """

    classes: NDArray[Any]
    codes: Codes
    link: Link | None = None


class Task(ABC):
    """One task.

    Attributes:
        name: as files, heads and messages have it; see :data:`featurestore.sources.tasks.TASKS`.
        asks: what it asks of an image, as a part of a message.
        one, noun: what one of its classes is called, and several.
        wrong, worst: what a report says of rows whose answers are wrong, and of their order.
        metrics: names of the metrics by which heads can be compared; the first one by default.
        activation: what makes outputs of the scores in an exported network: ``softmax``, ``sigmoid`` or ``linear``.
        loss: what training lessens, in words.
        output: name of the output of such a network.
        has_probabilities: whether outputs are probabilities.
        needing_all: those that are computed from all outputs of each row, which outcomes must keep.
    """

    name: ClassVar[str]
    asks: ClassVar[str]
    one: ClassVar[str]
    noun: ClassVar[str]
    wrong: ClassVar[str]
    worst: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    activation: ClassVar[str]
    loss: ClassVar[str] = "log loss"
    output: ClassVar[str] = "probabilities"
    has_probabilities: ClassVar[bool] = True
    needing_all: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def check(self, y: NDArray[Any], names: Sequence[str]) -> None:
        """Check that a head can be fitted to these answers.

        Args:
            y: the answers of the training rows.
            names: of the classes, the labels or the number.

        Raises:
            InputError: it cannot; the message says why, with a name.
        """

    @abstractmethod
    def encode(self, y: ArrayLike, plain: int | None = None) -> Encoded:
        """Return the answers y of training rows as a fit takes them.

        Args:
            y: the answers.
            plain: the first so many rows are images; the others are versions of these, of which nothing is learnt here.

        Raises:
            InputError: no head can be fitted to them.
        """

    @abstractmethod
    def width(self, y: NDArray[Any]) -> int:
        """Return how many scores a head that is fitted to these answers has."""

    @abstractmethod
    def counts(self, y: NDArray[Any], classes: int) -> NDArray[np.intp]:
        """Return how many rows with these answers each class or label has (C,)."""

    @abstractmethod
    def most_folds(self, y: NDArray[Any]) -> tuple[int, str]:
        """Return into how many folds rows with these answers can be divided, and why not into more."""

    @abstractmethod
    def aligned(self, y: NDArray[Any], names: Sequence[str], wanted: Sequence[str], where: Path | str) -> NDArray[Any]:
        """Return answers of another data set in the order of a head's names.

        Args:
            y: the answers.
            names: of that data set's classes, labels or number.
            wanted: those of the head.
            where: names the data set, for messages.

        Raises:
            HeadError: the data set has other names than the head knows.
        """

    @abstractmethod
    def known(self, y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which rows have an answer that a head can give, bool (N,)."""

    @abstractmethod
    def codes(self, y: NDArray[Any], classes: NDArray[Any], link: Link | None) -> Codes:
        """Return the goals of further rows, all of which are known."""

    @abstractmethod
    def answers(self, codes: Codes, link: Link | None) -> NDArray[Any]:
        """Return the answers that these are the goals of."""

    @abstractmethod
    def calibrated(
        self, scores: Floating, codes: Codes, link: Link | None, are_answers: bool
    ) -> tuple[Link | None, Calibration | None]:
        """Fit what turns scores into answers to rows that were held out.

        Args:
            scores: of these rows (J, K).
            codes: their goals.
            link: as the training rows tell it.
            are_answers: whether the scores are probabilities, or values, already.
        """

    @abstractmethod
    def outputs(self, scores: Floating, link: Link | None, are_answers: bool) -> Doubles:
        """Return probabilities, or values, (N, K) from scores."""

    def unit(self, link: Link) -> float:
        """Return the size of a difference of outputs that is as large as 1 of probabilities."""
        return 1.0

    @abstractmethod
    def decided(self, outputs: Floating, classes: NDArray[Any], link: Link | None) -> NDArray[Any]:
        """Return what a head predicts: classes (N,), 0 or 1 for each label (N, K), or numbers (N,)."""

    @abstractmethod
    def outcomes(
        self, y: NDArray[Any], outputs: Floating, classes: NDArray[Any], count: int, *, keep: bool = False
    ) -> Any:
        """Compare outputs (N, K) with answers y: what metrics are computed from, as ``.rows(some)`` of some rows.

        Args:
            y: the answers.
            outputs: those of a head.
            classes: the classes of the outputs (K,).
            count: the number of all classes.
            keep: whether to keep all outputs with them, where that is a choice: some metrics need these.
        """

    def raw_outcomes(self, scores: Floating, codes: Codes, link: Link | None, metric: str = "") -> Any:
        """Return the outcomes of scores (N, K) that are not calibrated; `metric` is one that they must be good for."""
        width, answers = scores.shape[1], self.answers(codes, link)
        classes, keep = np.arange(width), metric in self.needing_all
        return self.joined([
            self.outcomes(
                answers[part], self.outputs(scores[part], link, are_answers=False), classes, width, keep=keep
            )
            for part in blocks(*scores.shape)
        ])  # fmt: skip

    @abstractmethod
    def joined(self, parts: Sequence[Any]) -> Any:
        """Put the outcomes of several blocks of rows one after the other."""

    @abstractmethod
    def held_outcomes(
        self, scores: Floating, codes: Codes, link: Link | None, are_answers: bool, metric: str = ""
    ) -> Any:
        """Return the outcomes of held-out rows in a sweep, calibrated on themselves; see :meth:`raw_outcomes`."""

    @abstractmethod
    def estimates(self, outcomes: Any, groups: Labels | None = None, metric: str = "") -> dict[str, Estimate]:
        """Estimate the metrics of some rows; `metric` is one that must be among them."""

    def bound(self, level: float | None, link: Link | None, conformity: Sequence[float] | None) -> Bound | None:
        """Return what makes answers hold at a level.

        Args:
            level: above 0 and below 1; None for that of the task, if it has one.
            link: of the head.
            conformity: the probabilities of the true class of held-out rows (R,); None if they are not known.

        Raises:
            HeadError: there is no such set or interval, or too few rows were held out.
        """
        if level is not None:
            raise HeadError(f"--level {level:g}: a head of {self.noun} has neither sets nor intervals: leave it out")
        return None

    @abstractmethod
    def measure(
        self,
        outcomes: Any,
        names: Sequence[str],
        split: str,
        groups: Labels | None,
        link: Link | None,
        bound: Bound | None = None,
    ) -> Evaluated:
        """Measure the rows of a split, with intervals, for people; with a bound, how often it holds."""

    @abstractmethod
    def mistakes(self, outcomes: Any, link: Link | None) -> NDArray[np.intp]:
        """Return the rows whose answers are wrong, those first that speak most against the head."""

    @abstractmethod
    def told(self, outcomes: Any, names: Sequence[str], link: Link | None) -> dict[str, Any]:
        """Return the ``true`` answer of one row and the ``predicted`` one, in words, and how probable that is."""

    @abstractmethod
    def predicted(
        self,
        path: str,
        row: Doubles,
        names: Sequence[str],
        link: Link | None,
        top: int | None,
        bound: Bound | None = None,
    ) -> Predicted:
        """Return what a head says of one image.

        Args:
            path: of the image.
            row: its outputs (C,).
            names: of the classes, the labels, or the number.
            link: of the head.
            top: name only so many classes or labels, the likeliest first; None for all.
            bound: see :meth:`bound`.
        """

    @abstractmethod
    def unreadable(self, path: str, reason: str) -> Predicted:
        """Return what is said of an image that cannot be read."""

    @abstractmethod
    def columns(self, names: Sequence[str], top: int | None, bound: Bound | None = None) -> list[str]:
        """Return the headings of the cells of predictions in a CSV, see :class:`heads.tasks.predictions.Predicted`."""

    @abstractmethod
    def score(self, y: ArrayLike, predicted: NDArray[Any], weights: NDArray[Any] | None) -> float:
        """Return what scikit-learn calls the score of predictions: accuracy, or R²."""


def checked_level(level: float, value: float | None, rows: int) -> Bound:
    """Return the bound of a level that was found from so many held-out rows.

    Raises:
        HeadError: there is none, since they are too few.
    """
    if value is None:
        raise HeadError(f"--level {level:g} takes more held-out rows than the {rows:,} of this head: give a lower one")
    return Bound(level, value)


def check_level(level: float) -> None:
    """Check that a level is one.

    Raises:
        HeadError: it is not above 0 and below 1.
    """
    if not 0 < level < 1:
        raise HeadError(f"--level {level:g}: give a share above 0 and below 1, such as 0.95")


def places(names: Sequence[str], wanted: Sequence[str], where: Path | str) -> NDArray[np.intp]:
    """Return the number that a head has for each name of a data set.

    Raises:
        HeadError: it does not know one of them.
    """
    known = {name: i for i, name in enumerate(wanted)}
    for name in names:
        if name not in known:
            raise HeadError(f"{where}: the head does not know class {name!r}: {suggest(name, known)}")
    return np.array([known[name] for name in names], np.intp)
