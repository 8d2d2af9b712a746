"""Ways to run a frozen network fast."""

from featurestore.engines.base import Compute
from featurestore.engines.keras_engine import accelerators
from featurestore.engines.registry import (
    AUTO,
    ENGINES,
    TOLERANCE,
    WORTH_CONVERTING,
    Compiler,
    adapted,
    available,
    batch_size,
    choose,
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
    "WORTH_CONVERTING",
    "Compiler",
    "Compute",
    "accelerators",
    "adapted",
    "available",
    "batch_size",
    "choose",
    "compile_backbone",
    "default",
    "difference",
    "fastest",
    "producer",
]
