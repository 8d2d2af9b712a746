"""When a head gives no answer: to an image that is too novel, or where it is not certain enough."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError, suggest
from heads.storage.saved_head import FittedHead
from heads.tasks.predictions import Predicted

Asked = Mapping[str, float] | Iterable[str]
"""``novelty`` and ``probability`` with their limits, by name or as texts ``name=limit``."""


class Abstaining(NamedTuple):
    """The limits of what is answered.

    Attributes:
        novelty: the greatest novelty of an image that gets an answer, see :class:`heads.storage.novelty.Novelty`.
        probability: the least probability of a class that is an answer.

    Example:
        >>> Abstaining.of(["novelty=0.99", "probability=0.8"])
        Abstaining(novelty=0.99, probability=0.8)
    """

    novelty: float | None = None
    probability: float | None = None

    @classmethod
    def of(cls, asked: Asked) -> "Abstaining":
        """Read what a user asks for, see :data:`Asked`.

        Raises:
            HeadError: it has another name, or a limit that is not between 0 and 1.
        """
        pairs = asked.items() if isinstance(asked, Mapping) else (tuple(text.partition("=")[::2]) for text in asked)
        found = {}
        for name, value in pairs:
            if name not in cls._fields:
                raise HeadError(
                    f"--abstain {name}: {suggest(name, cls._fields)}; write novelty=0.99 or probability=0.8"
                )
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = np.nan
            if not 0 < found[name] < 1:
                raise HeadError(f"--abstain {name}={value}: give a number above 0 and below 1")
        return cls(**found)

    def check(self, head: FittedHead) -> None:
        """Check that a head can say what the limits are of.

        Raises:
            HeadError: it cannot; the message names it.
        """
        where = head.path or "the head"
        if self.novelty is not None and head.novelty is None:
            raise HeadError(
                f"{where}: does not know how novel an image is: fit it again with --novelty, or leave "
                "out --abstain novelty"
            )
        if self.probability is not None and head.head.link_ is not None:
            raise HeadError(
                f"{where}: predicts {head.head.task_.asks}, which has no probability of its own: leave out "
                "--abstain probability"
            )

    def applied(self, found: Predicted, row: NDArray[np.float64], names: tuple[str, ...]) -> Predicted:
        """Return a prediction as it is, or without its answer and with the reason.

        Args:
            found: the prediction.
            row: the outputs of the head (C,).
            names: of these.
        """
        if self.novelty is not None and found.novelty is not None and found.novelty > self.novelty:
            return found.withheld(f"novelty {found.novelty:.3f}, above {self.novelty:g}")
        if self.probability is not None and (certain := found.certainty(row, names)) < self.probability:
            return found.withheld(f"probability {certain:.3f}, below {self.probability:g}")
        return found
