"""The results of a learning curve."""

from dataclasses import dataclass, field
from typing import Any

from featurestore.system.results import Result
from heads.forecasting.power_law import Forecast


@dataclass(frozen=True, repr=False)
class Point(Result):
    """How good heads are that were fitted to so many images.

    Attributes:
        images: mean number of training images over the repeats.
        shots: images of each class, if these were asked for; else None.
        value: mean of the metric over the repeats.
        error: its standard error: of other training images, and of other held-out images.
        interval: its 95 % interval.
        metrics: the mean of each metric that a sweep knows.
        repeats: the metric of each repeat.
        chosen: each hyperparameter that was varied, and the value that each repeat chose.
    """

    images: int
    shots: int | None
    value: float
    error: float
    interval: list[float]
    metrics: dict[str, float]
    repeats: list[float]
    chosen: dict[str, list[Any]]


@dataclass(frozen=True, repr=False)
class LearningCurve(Result):
    """A learning curve; see :func:`heads.forecasting.curve.curve`.

    Attributes:
        path: the feature file.
        dataset: name of the data set.
        head: kind of head.
        metric: the metric of the curve.
        held_out: ``folds``, ``validation`` or ``test``.
        held_rows: number of different rows that are held out.
        classes: number of classes.
        points: one for each size, the smallest first.
        law: ``a``, ``b`` and ``c`` of the power law ``a - b * n ** -c``, each with its median and the ends of its 95 %
            interval; None where there is none.
        ahead: what the law says of more images, the fewest first; none without a law.
        notes: sentences about how this was found.
        seconds: duration of the call.
        page: the page; None where none was asked for.
        png: files of the chart.
    """

    path: str
    dataset: str
    head: str
    metric: str
    held_out: str
    held_rows: int
    classes: int
    points: list[Point]
    law: dict[str, list[float]] | None
    ahead: list[Forecast]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    page: str | None = None
    png: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without ``page`` and ``png`` where there are none."""
        values = super().to_dict()
        return {name: value for name, value in values.items() if name not in ("page", "png") or value}
