"""The result of adapting a head."""

from dataclasses import dataclass, field, fields
from typing import Any

from featurestore.system.results import Result, plain
from heads.storage.fitted_head import FittedHead


@dataclass(frozen=True, repr=False)
class Adaptation(Result):
    """What was changed in a head; see :func:`heads.adapting.adapt.adapt`.

    Attributes:
        head: the adapted head.
        path: its folder; None if it was not saved.
        by: what it was adapted by: ``labels``, a ``stated`` balance, or an ``estimated`` one.
        split: the split of the rows; None for a stated balance.
        rows: how many rows were used.
        left: rows of the split that were not, by which the new head can be judged.
        temperature: by which log-probabilities are divided, beside the head's own temperature.
        shift: what is then added to the log-probability of each class.
        balance: the share of each class: of the labelled rows, as stated, or as estimated.
        balance_before: the share that the head takes each class to have; None where that is not known.
        threshold: of two classes, the probability of the second from which on a row is said to be of it; None for one
            half, and where there are more classes.
        before: accuracy and log loss of the head as it was, on the labelled rows; None without labels.
        after: the same of the adapted one, each row by a shift that was fitted to others; None without labels.
        notes: sentences about what to keep in mind.
    """

    head: FittedHead
    path: str | None
    by: str
    split: str | None
    rows: int
    left: int
    temperature: float
    shift: dict[str, float]
    balance: dict[str, float]
    balance_before: dict[str, float] | None
    threshold: float | None = None
    before: dict[str, float] | None = None
    after: dict[str, float] | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without the head."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name != "head"}
