"""The engines by name, and the choice of one. All engines compute the same numbers, within a tolerance."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from featurestore import spec
from featurestore.backbones import FrozenNetwork
from featurestore.backbones.base import Outputs
from featurestore.engines import keras_engine, onnxruntime_engine, openvino_engine, reference_engine
from featurestore.engines.base import Compute, Engine, averaged
from featurestore.engines.keras_engine import accelerators
from featurestore.errors import BackboneError
from featurestore.spec import ExtractionSpec
from featurestore.system.machine import cores, version_of

WORTH_CONVERTING = 256
"""Images from which on a network is converted for an engine that is faster and slower to begin with."""
THUMBNAIL = 32
"""Side of images, in pixels, up to which TensorFlow's batches are faster (by a half) than OpenVINO's single images."""

LONG, FLOPS_PER_CORE = 600.0, 50e9
"""Seconds of computing from which on engines are compared; and what a slow core does in one."""

CONTEST, ROUNDS = 10.0, 4
"""Seconds after which no further round of a comparison begins, and the most rounds. One round alone, which large images
can make long, is 8 images for each engine, where a run has :data:`WORTH_CONVERTING` and more."""

_ENGINES: dict[str, Engine] = {
    "keras": keras_engine,
    "openvino": openvino_engine,
    "onnxruntime": onnxruntime_engine,
    "reference": reference_engine,
}
"""They are in the order of preference where nothing is measured; the reference is the last."""

AUTO = "auto"
ENGINES: tuple[str, ...] = get_args(spec.Engine)

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.02}
"""Per precision, the largest difference between engines that is taken for rounding, relative to the largest value."""

_DUST = 1e-6
"""A difference that says nothing, however small the features: they may be probabilities of what no image shows."""

_CHECKED, _MEASURED = 2, 8  # images


def compile_backbone(network: FrozenNetwork, engine: str = AUTO) -> Compute:
    """Make a network ready to run. Always call the result with the same batch size: kernels differ with it.

    It takes what the network takes, uint8 (B, size, size, 3), whatever is cut out of the images before: for that see
    :class:`Compiler`.

    Its features are compared with those of the network's own :meth:`~featurestore.backbones.FrozenNetwork.run`: now,
    for the two pictures of a network that was converted, or else for the first batch. What differs beyond TOLERANCE
    raises BackboneError; in the second case what the first batch returns does.

    Args:
        network: see :func:`featurestore.backbones.load_backbone`.
        engine: one of :data:`ENGINES`; ``auto`` takes the first that can run the network.

    Raises:
        BackboneError, MissingDependencyError: the engine is not to be had here, or cannot run this network.
    """
    engine = default(network) if engine == AUTO else engine
    if error := _ENGINES[engine].why_not(network):
        raise error
    network = _ENGINES[engine].adapted(network)
    compute = _ENGINES[engine].compile_backbone(network)
    if kept := network.sample():
        pixels, expected = kept
        _compare(expected, compute(pixels)(), network, engine)
        return compute
    checked = False

    def start(pixels: NDArray[np.uint8]) -> Callable[[], Outputs]:
        running = compute(pixels)

        def finish() -> Outputs:
            nonlocal checked
            found = running()
            if not checked:  # if this batch is refused, no later one is let through
                _check(found, network, engine, pixels)
                checked = True
            return found

        return finish

    return start


class Compiler:
    """Makes networks ready to run. One that is wanted in several framings is converted and compiled once."""

    def __init__(self) -> None:
        self._ready: dict[tuple[ExtractionSpec, str], tuple[FrozenNetwork, Compute]] = {}

    def compiled(self, network: FrozenNetwork, engine: str = AUTO) -> tuple[FrozenNetwork, Compute]:
        """Return a network in the form that the engine begins with, and what runs it; see :func:`compile_backbone`.

        The function takes the pixels of the network's own framing, uint8 (B, side, side, 3), and gives the mean of the
        features of its crops.

        Raises:
            BackboneError, MissingDependencyError: as there.
        """
        engine, spec = default(network) if engine == AUTO else engine, network.spec()
        wanted = spec.network, engine
        if wanted not in self._ready:
            made = adapted(network, engine)
            self._ready[wanted] = made, compile_backbone(made, engine)
        made, compute = self._ready[wanted]
        return made.framed(spec.framing), averaged(compute, spec.framing)


def available(engine: str, network: FrozenNetwork) -> bool:
    """Return whether an engine can run a network here."""
    return engine in _ENGINES and _ENGINES[engine].why_not(network) is None


def adapted(network: FrozenNetwork, engine: str) -> FrozenNetwork:
    """Return a network in the form that an engine begins with, see :func:`compile_backbone` for its errors."""
    if error := _ENGINES[engine].why_not(network):
        raise error
    return _ENGINES[engine].adapted(network)


def default(network: FrozenNetwork) -> str:
    """Name the engine that runs a network where nothing is measured."""
    return next(_usable(network))


def choose(network: FrozenNetwork, images: int) -> str:
    """Name the engine that should be done first with so many images, its own start included.

    On a CPU OpenVINO is up to four times as fast as TensorFlow's graph, and was never slower by more than a fifth but
    for thumbnails, which it takes one by one; and the network has to be converted for it. Only before long runs, whose
    length follows from the network's operations, are the engines measured. Each crop of an image counts as one.
    """
    images *= network.crops
    operations = images * max((count for count in network.flops.values() if count), default=0)
    if images < WORTH_CONVERTING or accelerators():
        return default(network)
    if operations / (FLOPS_PER_CORE * cores()) > LONG:
        return fastest(network)
    converted = network.size > THUMBNAIL and available("openvino", network)
    return "openvino" if converted else default(network)


def fastest(network: FrozenNetwork) -> str:
    """Measure the engines for a few seconds, or for one round if that takes longer, and name the fastest one."""
    usable = list(_usable(network))
    if len(usable) == 1:
        return usable[0]
    pixels = np.random.default_rng(0).integers(0, 256, (_MEASURED, network.size, network.size, 3), dtype=np.uint8)
    compiled = {engine: _ENGINES[engine].compile_backbone(network) for engine in usable}
    # In turn, and the least of each: other processes, and the first pass, can only make a pass slower.
    end, rounds = time.perf_counter() + CONTEST, list[dict[str, float]]()
    while not rounds or (len(rounds) < ROUNDS and time.perf_counter() < end):
        rounds.append({engine: _seconds(compute, pixels) for engine, compute in compiled.items()})
    return min(compiled, key=lambda engine: min(seconds[engine] for seconds in rounds))


def batch_size() -> int:
    """Return the default number of images per forward pass: GPUs want many; on a CPU more than 32 gain nothing."""
    return 256 * accelerators() or 32


def producer(network: FrozenNetwork, engine: str, decoding: Sequence[str] = ("pillow",)) -> dict[str, str]:
    """Return the versions of engine and libraries: the provenance of the rows that are computed.

    Args:
        network: what computes them.
        engine: what runs it.
        decoding: libraries that decode the images.
    """
    libraries = ("featurestore", *network.libraries(), engine, "numpy", *decoding)
    return {"engine": engine} | {library: found for library in libraries if (found := version_of(library))}


def difference(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Return the largest difference, relative to the largest expected value."""
    expected, found = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


def _usable(network: FrozenNetwork) -> Iterator[str]:
    """Give the engines that can run a network here; the reference, the slowest, only where there is no other.

    An engine's library is imported no sooner than its name is asked for.
    """
    *others, reference = _ENGINES
    if network.openvino_model() is not None:
        others.sort(key=["openvino", *others].index)
    found = False
    for engine in others:
        if available(engine, network):
            found = True
            yield engine
    if not found:
        yield reference


def _check(found: Outputs, network: FrozenNetwork, engine: str, pixels: NDArray[np.uint8]) -> None:
    filled = np.flatnonzero(pixels.any(axis=(1, 2, 3)))  # a black image may be padding
    rows = filled[:_CHECKED] if len(filled) else np.array([0])
    _compare(network.run(pixels[rows]), {tap: values[rows] for tap, values in found.items()}, network, engine)


def _compare(expected: Outputs, found: Outputs, network: FrozenNetwork, engine: str) -> None:
    for tap, values in expected.items():
        if np.abs(found[tap] - values).max() <= _DUST:
            continue
        if not (off := difference(values, found[tap])) <= TOLERANCE[network.precision]:
            raise BackboneError(
                f"the engine {engine} gives features of {network.name}, tap {tap!r}, that differ by {off:.1%} from "
                "those of the network's own layers: nothing is kept; pass another --engine"
            )


def _seconds(compute: Compute, pixels: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    compute(pixels)()
    return time.perf_counter() - start
