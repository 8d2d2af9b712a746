"""Ways to run a frozen network fast."""

from featurestore.engines.base import Compute
from featurestore.engines.keras_engine import accelerators
from featurestore.engines.registry import (
    AUTO,
    ENGINES,
    TOLERANCE,
    available,
    batch_size,
    compile_backbone,
    default,
    difference,
    fastest,
    producer,
)

__all__ = [
    "AUTO",
    "ENGINES",
    "TOLERANCE",
    "Compute",
    "accelerators",
    "available",
    "batch_size",
    "compile_backbone",
    "default",
    "difference",
    "fastest",
    "producer",
]
