"""Images through frozen networks: decoded by threads ahead of them, in batches of one fixed size."""

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore import engines
from featurestore.backbones import Backbone
from featurestore.errors import ImageError
from featurestore.spec import Dtype

DECODERS = min(8, os.cpu_count() or 1)

Item = TypeVar("Item", bound=Hashable)
Key = TypeVar("Key")
Result = TypeVar("Result")
Pixels = NDArray[np.uint8] | ImageError


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """What one batch gave: the items that have features, those features, and the reasons of those that have none."""

    items: list[Item]
    features: dict[str, NDArray[np.floating[Any]]]
    failures: list[tuple[Item, str]]


class Lane(Generic[Item]):
    """One network and the batches that it is to run.

    Args:
        backbone: the frozen network.
        batches: items by batch, each batch of at most `batch_size`; None holds a place without running anything.
        dtype: of the features. A value beyond the range of float16 comes out as infinity.
        batch_size: of every forward pass: a short batch is padded with black images, since kernels, and with them
            the last bits of a result, depend on the size.
        engine: see :mod:`featurestore.engines`.
    """

    def __init__(
        self,
        backbone: Backbone,
        batches: Iterable[Sequence[Item | None]],
        *,
        dtype: Dtype,
        batch_size: int,
        engine: str = engines.DEFAULT,
    ) -> None:
        self._size, self._dtype, self._batch_size = backbone.size, dtype, batch_size
        self._compute = engines.compile_backbone(backbone, engine)
        self._batches = deque(batch for batch in batches if any(item is not None for item in batch))
        self._waiting: dict[Item, Pixels] = {}

    def offer(self, pixels: Mapping[Item, Pixels]) -> Iterator[Outcome[Item]]:
        """Take in some items' pixels, and run every batch that is complete now. Batches run in their order."""
        self._waiting.update(pixels)
        while self._batches and all(item is None or item in self._waiting for item in self._batches[0]):
            batch = self._batches.popleft()
            yield self._run(batch)
            for item in batch:
                self._waiting.pop(item, None)  # type: ignore[arg-type]

    def _run(self, batch: Sequence[Item | None]) -> Outcome[Item]:
        full = np.zeros((self._batch_size, self._size, self._size, 3), np.uint8)
        items, slots, failures = [], [], []
        for slot, item in enumerate(batch):
            if item is None:
                continue
            pixels = self._waiting[item]
            if isinstance(pixels, ImageError):
                failures.append((item, str(pixels)))
            else:
                full[slot] = pixels
                items.append(item)
                slots.append(slot)
        if not items:
            return Outcome([], {}, failures)
        with np.errstate(over="ignore"):  # documented above, and for the caller to judge
            features = {tap: np.asarray(array)[slots].astype(self._dtype) for tap, array in self._compute(full).items()}
        return Outcome(items, features, failures)


def ahead(keys: Iterable[Key], work: Callable[[Key], Result], window: int) -> Iterator[tuple[Key, Result]]:
    """Each key with its result, in order, computed by threads for up to `window` keys ahead."""
    with ThreadPoolExecutor(DECODERS, "decode") as pool:
        queue: deque[tuple[Key, Future[Result]]] = deque()
        try:
            for key in keys:
                queue.append((key, pool.submit(work, key)))
                if len(queue) > window:
                    first, future = queue.popleft()
                    yield first, future.result()
            while queue:
                first, future = queue.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
