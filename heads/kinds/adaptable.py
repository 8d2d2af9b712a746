"""What a head of classes needs so that it can be adapted to another place: one scale, and an offset of each class."""

from copy import copy
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


class Adaptable:
    """The part of :class:`heads.kinds.base.Head` by which it is changed once the head is fitted.

    A kind that has a bias adds offsets to it, so that an adapted head is like any other, in files and networks too.
    """

    temperature_: float
    scores_are_probabilities: ClassVar[bool] = False
    """Whether the scores are probabilities already, so that they are not divided by a temperature."""
    offset_ = cast("Doubles | None", None)

    @property
    def evens_classes(self) -> bool:
        """Whether the fit takes all classes as equally frequent, whatever their rows."""
        return False

    def adapted(self, scale: float, offset: Doubles) -> Self:
        """Return the head with log-probabilities ``scale * log p + offset``, normalised.

        Args:
            scale: above 0; 1 if scores are probabilities, which have no temperature.
            offset: of each of ``classes_`` (C,).
        """
        made = copy(self)
        made.temperature_ = self.temperature_ / scale
        made._add(scale, offset)
        return made

    def _add(self, scale: float, offset: Doubles) -> None:
        """Add to the log-probabilities, once the temperature is set; a kind that has a bias adds to that."""
        self.offset_ = offset if self.offset_ is None else scale * self.offset_ + offset

    def _shifted(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return scores (N, C) with the offset, if there is one that is no part of a bias."""
        if self.offset_ is None:
            return scores
        if self.scores_are_probabilities:
            shares = scores * np.exp(self.offset_)
            return np.asarray(shares / shares.sum(axis=1, keepdims=True))
        return np.asarray(scores + self.offset_ * self.temperature_)
