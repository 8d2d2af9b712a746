"""The numeric columns that a head was fitted to, such as age, and how their training rows scaled them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurestore.sources.numeric import NumericColumns
from featurestore.store.file_format import Column
from heads.rows import NumericScaling


@dataclass(frozen=True)
class NumericInput:
    """One numeric column.

    Attributes:
        column: its name, and the texts that 0 and 1 stand for.
        mean, scale: of its values in the training rows; a missing value becomes the mean.
    """

    column: Column
    mean: float
    scale: float

    @classmethod
    def of(cls, columns: Sequence[Column], scaling: NumericScaling | None) -> "tuple[NumericInput, ...]":
        """Describe the columns of a table, and how they are scaled."""
        if scaling is None:
            return ()
        pairs = zip(scaling.mean.tolist(), scaling.scale.tolist(), strict=True)
        return tuple(cls(column, *pair) for column, pair in zip(columns, pairs, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return {"name": self.column.name, "codes": list(self.column.codes), "mean": self.mean, "scale": self.scale}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NumericInput":
        """Read what :meth:`to_dict` returned.

        Raises:
            ValueError: it has another number of texts than 0 to 2, all different.
        """
        codes = tuple(values["codes"])
        if len(codes) > 2 or len(set(codes)) < len(codes):
            raise ValueError("a numeric column has codes that are not two texts")
        return cls(Column(values["name"], codes), values["mean"], values["scale"])


def names_of(inputs: Sequence[NumericInput]) -> str:
    """Return the names of some columns as a part of a message."""
    return ", ".join(repr(each.column.name) for each in inputs)


def columns_of(inputs: Sequence[NumericInput]) -> NumericColumns:
    """Return the columns as :mod:`featurestore.sources.numeric` reads the cells of a table by them."""
    return NumericColumns(tuple(each.column.name for each in inputs), tuple(each.column.codes for each in inputs))


def scaling_of(inputs: Sequence[NumericInput]) -> NumericScaling | None:
    """Return how the columns are scaled; None for no columns."""
    if not inputs:
        return None
    return NumericScaling(
        np.array([each.mean for each in inputs], np.float32), np.array([each.scale for each in inputs], np.float32)
    )
