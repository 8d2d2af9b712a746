"""The threshold between two classes that a head carries: what a user asks for, and how the head gets it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError, suggest
from heads.metrics.thresholds import CRITERIA, HALF, chosen_threshold
from heads.storage.fitted_head import FittedHead

Asked = str | float | None
"""One of :data:`heads.metrics.thresholds.CRITERIA`, or a probability, as a number or as text; None for one half."""


def parsed_threshold(asked: Asked, names: Sequence[str], task: str) -> str | float | None:
    """Return the criterion, or the probability, that a user asks for.

    Args:
        asked: see :data:`Asked`.
        names: of the classes.
        task: name of the task.

    Raises:
        HeadError: it is neither, or there are not two classes.
    """
    if asked is None:
        return None
    if task != "classification" or len(names) != 2:
        what = f"{len(names)} classes" if task == "classification" else f"a {task}"
        raise HeadError(f"--threshold {asked}: a threshold parts two classes, and this is {what}: leave it out")
    if asked in CRITERIA:
        return asked
    try:
        value = float(asked)
    except ValueError:
        why = suggest(str(asked), CRITERIA)
        raise HeadError(f"--threshold {asked}: {why}; or give a probability above 0 and below 1") from None
    if not 0 < value < 1:
        raise HeadError(f"--threshold {asked}: give a probability above 0 and below 1, or one of {', '.join(CRITERIA)}")
    return None if value == HALF else value


def with_threshold(
    fitted: FittedHead, asked: str | float | None, held: tuple[NDArray[Any], NDArray[np.intp]] | None
) -> FittedHead:
    """Return a head that parts its two classes at the threshold that was asked for.

    Args:
        fitted: the head.
        asked: as :func:`parsed_threshold` returns it.
        held: probabilities (J, 2) of rows that were held out, and the column of their true classes (J,).

    Raises:
        HeadError: no rows were held out that could choose.
    """
    if isinstance(asked, str):
        if held is None:
            raise HeadError(
                f"--threshold {asked}: {fitted.design.kind} holds out no rows that could choose when it is fitted "
                "alone: give a probability, or let  sweep  judge it"
            )
        asked = chosen_threshold(held[1] == 1, held[0][:, 1], asked)
    return fitted if asked is None else replace(fitted, threshold=asked)
