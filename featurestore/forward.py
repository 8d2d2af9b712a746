"""Images through a frozen network: decoded by threads ahead of it, in batches of one fixed size."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore import engines, images
from featurestore.backbones import Backbone
from featurestore.dataset import Data
from featurestore.errors import ImageError
from featurestore.spec import Dtype, Resize

DECODERS = min(8, os.cpu_count() or 1)
BATCHES_AHEAD = 2

Item = TypeVar("Item")
_Pixels = NDArray[np.uint8] | ImageError | None


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """What one batch gave: the items that have features, those features, and the reasons of those that have none."""

    items: list[Item]
    features: dict[str, NDArray[np.floating[Any]]]
    failures: list[tuple[Item, str]]


class Forward(Generic[Item]):
    """A backbone ready to take items, whatever `read` makes images of.

    Args:
        read: gives an item's data, or raises ImageError; called from threads.
        backbone: the frozen network.
        resize, dtype: see :class:`featurestore.spec.ExtractionSpec`. A value beyond the range of float16 comes out
            as infinity.
        batch_size: of every forward pass: a short batch is padded with black images, since kernels, and with them
            the last bits of a result, depend on the size.
        engine: see :mod:`featurestore.engines`.
    """

    def __init__(
        self,
        read: Callable[[Item], Data],
        backbone: Backbone,
        *,
        resize: Resize,
        dtype: Dtype,
        batch_size: int,
        engine: str = engines.DEFAULT,
    ) -> None:
        self._read, self._size, self._resize, self._dtype = read, backbone.size, resize, dtype
        self._batch_size = batch_size
        self._compute = engines.compile_backbone(backbone, engine)

    def run(self, batches: Iterable[Sequence[Item | None]]) -> Iterator[Outcome[Item]]:
        """One outcome per batch, in order. None holds an item's place without running it."""
        with ThreadPoolExecutor(DECODERS, "decode") as pool:
            ahead: deque[tuple[Sequence[Item | None], list[Future[_Pixels]]]] = deque()
            try:
                for batch in batches:
                    ahead.append((batch, [pool.submit(self._pixels, item) for item in batch]))
                    if len(ahead) > BATCHES_AHEAD:
                        yield self._outcome(*ahead.popleft())
                while ahead:
                    yield self._outcome(*ahead.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _pixels(self, item: Item | None) -> _Pixels:
        if item is None:
            return None
        try:
            return images.decode(self._read(item), self._size, self._resize)
        except ImageError as error:
            return error

    def _outcome(self, batch: Sequence[Item | None], futures: Sequence[Future[_Pixels]]) -> Outcome[Item]:
        full = np.zeros((self._batch_size, self._size, self._size, 3), np.uint8)
        items, slots, failures = [], [], []
        for slot, (item, future) in enumerate(zip(batch, futures, strict=True)):
            pixels = future.result()
            if item is None or pixels is None:
                continue
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


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
