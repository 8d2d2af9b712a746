"""The result of an export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurestore.system.results import Result


@dataclass(frozen=True, repr=False)
class Export(Result):
    """A model or features that were written to a file.

    Attributes:
        path: the file, or the folder of a SavedModel.
        format: its name.
        bytes: that it takes.
        images: of a model, how many it was compared with the head on; None of features.
        difference: of a model, the largest of a probability; None of features.
        notes: licences of the backbones' weights that are not free.
    """

    path: Path
    format: str
    bytes: int
    images: int | None = None
    difference: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without the fields that features do not have."""
        return {name: value for name, value in super().to_dict().items() if value not in (None, [])}
