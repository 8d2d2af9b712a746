"""Ways to run a frozen network fast. Every engine gives the same numbers, within a tolerance."""

import time
from collections.abc import Callable
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import Backbone
from featurestore.engines import keras_engine, openvino_engine
from featurestore.engines.base import Compute, Features
from featurestore.errors import BackboneError
from featurestore.spec import Engine
from featurestore.system.machine import version_of

__all__ = [
    "AUTO",
    "DEFAULT",
    "ENGINES",
    "TOLERANCE",
    "Compute",
    "accelerators",
    "available",
    "batch_size",
    "compile_backbone",
    "difference",
    "fastest",
    "producer",
]

accelerators = keras_engine.accelerators

_COMPILERS: dict[str, Callable[[Backbone], Compute]] = {
    "keras": keras_engine.compile_backbone,
    "openvino": openvino_engine.compile_backbone,
}
DEFAULT, AUTO = "keras", "auto"
ENGINES: tuple[str, ...] = get_args(Engine)

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.02}
"""Per precision, the largest difference between engines that is taken for rounding, relative to the largest value."""

_CHECKED, _MEASURED = 2, 8  # images


def compile_backbone(backbone: Backbone, engine: str = DEFAULT) -> Compute:
    """Make a backbone ready to run. Always call the result with the same batch size: kernels differ with it.

    The first batch is compared with Keras' own, uncompiled layers: what it returns raises BackboneError beyond
    TOLERANCE.

    Raises:
        BackboneError, MissingDependencyError: the engine is not to be had here.
    """
    compute, checked = _COMPILERS[engine](backbone), False

    def start(pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        running = compute(pixels)

        def finish() -> Features:
            nonlocal checked
            found = running()
            if not checked:  # if this batch is refused, no later one is let through
                _check(found, backbone, engine, pixels)
                checked = True
            return found

        return finish

    return start


def available(engine: str, backbone: Backbone) -> bool:
    """Whether an engine can run a backbone here."""
    return engine in _COMPILERS and (engine == DEFAULT or openvino_engine.why_not(backbone.precision) is None)


def fastest(backbone: Backbone) -> str:
    """The name of the engine that is measured to be the fastest here, in a few seconds."""
    if not available("openvino", backbone):
        return DEFAULT
    pixels = np.random.default_rng(0).integers(0, 256, (_MEASURED, backbone.size, backbone.size, 3), dtype=np.uint8)
    networks = {engine: compiler(backbone) for engine, compiler in _COMPILERS.items()}
    # In turn, and the least of each: other processes, and the first pass, can only make a pass slower.
    rounds = [{engine: _seconds(compute, pixels) for engine, compute in networks.items()} for _ in range(4)]
    return min(networks, key=lambda engine: min(seconds[engine] for seconds in rounds))


def batch_size() -> int:
    """Images per forward pass where nobody says otherwise: GPUs want many; on a CPU more than these gain nothing."""
    return 256 * accelerators() or 32


def producer(engine: str = DEFAULT) -> dict[str, str]:
    """Engine and library versions: provenance of the rows that it computes."""
    from keras import backend

    libraries = ("featurestore", "keras", backend.backend(), engine, "numpy", "pillow")
    return {"engine": engine} | {library: found for library in libraries if (found := version_of(library))}


def difference(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Largest difference relative to the largest expected value."""
    expected, found = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


def _check(found: Features, backbone: Backbone, engine: str, pixels: NDArray[np.uint8]) -> None:
    filled = np.flatnonzero(pixels.any(axis=(1, 2, 3)))  # a black image may be padding
    rows = filled[:_CHECKED] if len(filled) else np.array([0])
    expected = keras_engine.reference(backbone, pixels[rows])
    for tap, values in expected.items():
        if not (off := difference(values, found[tap][rows])) <= TOLERANCE[backbone.precision]:
            raise BackboneError(
                f"the engine {engine} gives features of {backbone.name}, tap {tap!r}, that differ from those of Keras' "
                f"layers by {off:.1%}: nothing is kept; pass another --engine"
            )


def _seconds(compute: Compute, pixels: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    compute(pixels)()
    return time.perf_counter() - start
