"""How to fine-tune: what is trained, on which versions of the images, and for how long."""

from dataclasses import dataclass

from featurestore.errors import HeadError
from featurestore.images import augment
from featurestore.spec import Augment, Dtype

_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "learning_rate": (1e-9, 10.0),
    "patience": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "views": (1, 1000),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The options of :func:`heads.finetuning.finetune.finetune`, which says what each is.

    Raises:
        HeadError: a number is out of its range.
        BackboneError: no such augmentation.
    """

    unfreeze: str = "last-block"
    epochs: int = 10
    learning_rate: float = 3e-4
    patience: int = 3
    batch_size: int = 32
    augment: Augment | None = None
    views: int = 4
    cache: bool = True
    dtype: Dtype = "float16"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise HeadError(
                    f"{name.replace('_', ' ')} {getattr(self, name)}: give a number from {low:g} to {high:g}"
                )
        if self.augment is not None:
            augment.check(self.augment)

    @property
    def made_views(self) -> int:
        """Augmented versions that are made of each training image."""
        return self.views if self.augment else 0
