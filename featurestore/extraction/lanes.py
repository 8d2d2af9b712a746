"""One frozen network and its batches, all of one fixed size, which start as the pixels of their items come."""

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore.engines import Compute
from featurestore.errors import ImageError
from featurestore.extraction.timing import Timing
from featurestore.spec import Dtype

ItemT = TypeVar("ItemT", bound=Hashable)
Pixels = NDArray[np.uint8] | ImageError


@dataclass(frozen=True)
class Outcome(Generic[ItemT]):
    """What one batch gave: the items that have features, those features, and the reasons of those that have none."""

    items: list[ItemT]
    features: dict[str, NDArray[np.floating[Any]]]
    failures: list[tuple[ItemT, str]]


class Lane(Generic[ItemT]):
    """One network and the batches that it is to run.

    Args:
        compute: the network, compiled.
        size: side of the pixels that it takes.
        batches: items by batch, each batch of at most `batch_size`; None holds a place without running anything.
        dtype: of the features. A value beyond the range of float16 comes out as infinity.
        batch_size: of every forward pass: a short batch is padded with black images, since kernels, and with them
            the last bits of a result, depend on the size.
        timing: where the time that batches take is counted.
    """

    def __init__(
        self,
        compute: Compute,
        size: int,
        batches: Iterable[Sequence[ItemT | None]],
        *,
        dtype: Dtype,
        batch_size: int,
        timing: Timing | None = None,
    ) -> None:
        self._compute, self._size, self._dtype, self._batch_size = compute, size, dtype, batch_size
        self._timing = timing or Timing()
        self._batches = deque(batch for batch in batches if any(item is not None for item in batch))
        self._waiting: dict[ItemT, Pixels] = {}
        self._lacking = self._needs()

    def offer(self, pixels: Mapping[ItemT, Pixels]) -> Iterator[Callable[[], Outcome[ItemT]]]:
        """Take in some items' pixels, and start every batch that is complete now, in order.

        What comes out waits for its batch, in any thread; call each once, in the same order.
        """
        self._waiting.update(pixels)
        self._lacking.difference_update(pixels)
        while self._batches and not self._lacking:
            batch = self._batches.popleft()
            yield self._start(batch)
            for item in batch:
                self._waiting.pop(item, None)  # type: ignore[arg-type]
            self._lacking = self._needs()

    def _needs(self) -> set[ItemT]:
        """Return the items that the next batch still waits for."""
        following = self._batches[0] if self._batches else ()
        return {item for item in following if item is not None and item not in self._waiting}

    def _start(self, batch: Sequence[ItemT | None]) -> Callable[[], Outcome[ItemT]]:
        full = np.zeros((self._batch_size, self._size, self._size, 3), np.uint8)
        items: list[ItemT] = []
        slots: list[int] = []
        failures: list[tuple[ItemT, str]] = []
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
            return lambda: Outcome([], {}, failures)
        started = time.perf_counter()
        running = self._compute(full)

        def finish() -> Outcome[ItemT]:
            found = running()
            self._timing.ran(started)
            with np.errstate(over="ignore"):  # the class says so, and the caller decides
                return Outcome(items, {tap: found[tap][slots].astype(self._dtype) for tap in found}, failures)

        return finish
