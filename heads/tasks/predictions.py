"""What a head says of one image, for each task: as an object, as cells of a CSV, and as text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featurestore.system.results import Result


@dataclass(frozen=True, repr=False)
class Predicted(Result):
    """What the predictions of all tasks have in common.

    Attributes:
        path: as given, or below the folder that was given.
        novelty: how unlike the head's training rows the image is, 0 to 1, see :class:`heads.storage.novelty.Novelty`;
            None if the head does not know.
        abstained: why there is no answer, though the image can be read; None if there is one.
    """

    path: str
    novelty: float | None = field(default=None, kw_only=True)
    abstained: str | None = field(default=None, kw_only=True)

    @property
    def failure(self) -> str | None:
        """Why the image cannot be read, or None."""
        found: str | None = getattr(self, "error")  # noqa: B009 (the last field of each kind)
        return found

    def certainty(self, row: NDArray[np.float64], names: Sequence[str]) -> float:
        """Return the probability of the answer, by those of all names (C,); 1 where an answer has none."""
        return 1.0

    def withheld(self, why: str) -> Self:
        """Return the prediction without its answer."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without what was not asked for."""
        return {name: value for name, value in super().to_dict().items() if value is not None or name not in EXTRAS}

    def extras(self, asked: Sequence[str]) -> list[str]:
        """Return what stands in a CSV behind :meth:`cells`: a cell for each of :data:`EXTRAS` that is asked for."""
        return [EXTRAS[name](getattr(self, name, None)) for name in asked]

    def remarks(self) -> list[str]:
        """Return what a line of text says beside :meth:`words`."""
        return [] if self.novelty is None else [f"novelty {self.novelty:.3f}"]

    @staticmethod
    def columns(names: Sequence[str], top: int | None) -> list[str]:
        """Return the headings of :meth:`cells`, for the names of a head's classes, labels or number."""
        raise NotImplementedError

    def cells(self, width: int) -> list[str]:
        """Return what stands in a CSV behind the path: so many cells."""
        raise NotImplementedError

    def words(self, top: int | None) -> list[tuple[str, str]]:
        """Return what a line of text says of an image: names, each with a number."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class Prediction(Predicted):
    """The prediction of a head for one image.

    Attributes:
        label: name of the likeliest class; None if the image cannot be read, or the head abstains.
        probabilities: per class name, likeliest first where not all classes are named; empty if the image cannot be
            read.
        error: why it cannot, or None.
        prediction_set: of a level that was asked for, the classes one of which is the true one so often, likeliest
            first.
    """

    label: str | None
    probabilities: dict[str, float]
    error: str | None = None
    prediction_set: list[str] | None = None

    def certainty(self, row: NDArray[np.float64], names: Sequence[str]) -> float:
        """See :class:`Predicted`."""
        return 1.0 if self.label is None else float(row[list(names).index(self.label)])

    def withheld(self, why: str) -> Self:
        """See :class:`Predicted`."""
        return replace(self, label=None, abstained=why)

    def remarks(self) -> list[str]:
        """See :class:`Predicted`: with the set."""
        told = [] if self.prediction_set is None else [f"one of: {', '.join(self.prediction_set)}"]
        return told + super().remarks()

    @staticmethod
    def columns(names: Sequence[str], top: int | None) -> list[str]:
        """See :class:`Predicted`: a column per class; or, with `top`, a pair of columns per rank."""
        return ["class", "error", *_ranks("class", names, top)]

    def cells(self, width: int) -> list[str]:
        """See :class:`Predicted`."""
        return _padded([self.label or "", self.error or "", *_chances(self.probabilities, width - 2)], width)

    def words(self, top: int | None) -> list[tuple[str, str]]:
        """See :class:`Predicted`."""
        return _likeliest(self.probabilities, top or 1)


@dataclass(frozen=True, repr=False)
class LabelPrediction(Predicted):
    """The prediction of a head of several labels for one image.

    Attributes:
        labels: those whose probability reaches the head's threshold of the label; None if the image cannot be read,
            or the head abstains.
        probabilities: per label, likeliest first where not all are named; empty if the image cannot be read.
        error: why it cannot, or None.
    """

    labels: list[str] | None
    probabilities: dict[str, float]
    error: str | None = None

    def withheld(self, why: str) -> Self:
        """See :class:`Predicted`."""
        return replace(self, labels=None, abstained=why)

    @staticmethod
    def columns(names: Sequence[str], top: int | None) -> list[str]:
        """See :class:`Predicted`."""
        return ["labels", "error", *_ranks("label", names, top)]

    def cells(self, width: int) -> list[str]:
        """See :class:`Predicted`: labels stand in one cell, with ``|`` between."""
        told = "|".join(self.labels or ())
        return _padded([told, self.error or "", *_chances(self.probabilities, width - 2)], width)

    def words(self, top: int | None) -> list[tuple[str, str]]:
        """See :class:`Predicted`."""
        if top is not None:
            return _likeliest(self.probabilities, top)
        chosen = {name: self.probabilities[name] for name in self.labels or () if name in self.probabilities}
        return _likeliest(chosen, len(chosen)) or [("no label", "")]


@dataclass(frozen=True, repr=False)
class NumberPrediction(Predicted):
    """The prediction of a head of numbers for one image.

    Attributes:
        value: the number; None if the image cannot be read, or the head abstains.
        interval: bounds between which the number lies in 95 of 100 cases, or as often as was asked for, by the errors
            of rows that were held out from the fit; None where the head knows too few.
        error: why the image cannot be read, or None.
    """

    value: float | None
    interval: list[float] | None = None
    error: str | None = None

    def withheld(self, why: str) -> Self:
        """See :class:`Predicted`."""
        return replace(self, value=None, interval=None, abstained=why)

    @staticmethod
    def columns(names: Sequence[str], top: int | None) -> list[str]:
        """See :class:`Predicted`: without those of the interval, which name its level."""
        return [names[0], "error"]

    def cells(self, width: int) -> list[str]:
        """See :class:`Predicted`."""
        value = "" if self.value is None else f"{self.value:.7g}"
        return _padded([value, self.error or "", *(f"{bound:.7g}" for bound in self.interval or ())], width)

    def words(self, top: int | None) -> list[tuple[str, str]]:
        """See :class:`Predicted`."""
        between = " – ".join(f"{bound:.4g}" for bound in self.interval or ())
        return [(f"{self.value:.4g}", between)]


EXTRAS: dict[str, Callable[[Any], str]] = {
    "prediction_set": lambda names: "|".join(names or ()),
    "novelty": lambda value: "" if value is None else f"{value:.4f}",
    "abstained": lambda why: why or "",
}
"""Fields that a prediction has where they are asked for, and how they stand in a CSV."""


def chances(row: NDArray[np.float64], names: Sequence[str], top: int | None) -> dict[str, float]:
    """Return the probabilities (C,) of classes or labels by name: of all, or of the likeliest, these first."""
    order = np.argsort(-row, kind="stable")
    return {names[i]: float(row[i]) for i in (range(len(row)) if top is None else order[:top].tolist())}


def _ranks(what: str, names: Sequence[str], top: int | None) -> list[str]:
    if top is None:
        return [*names]
    return [text for rank in range(1, min(top, len(names)) + 1) for text in (f"{what} {rank}", f"probability {rank}")]


def _chances(probabilities: dict[str, float], width: int) -> list[str]:
    chances = {name: f"{chance:.6f}" for name, chance in probabilities.items()}
    return [*chances.values()] if len(chances) == width else [text for pair in chances.items() for text in pair]


def _padded(cells: list[str], width: int) -> list[str]:
    return cells + [""] * (width - len(cells))


def _likeliest(probabilities: dict[str, float], count: int) -> list[tuple[str, str]]:
    likeliest = sorted(probabilities.items(), key=lambda pair: -pair[1])[:count]
    return [(name, f"{chance:.3f}") for name, chance in likeliest]
