"""Work that is done ahead of whoever takes its results, by threads or processes, in order and in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from featurestore.system.machine import cores

Key = TypeVar("Key")
Result = TypeVar("Result")


def ahead(
    keys: Iterable[Key], work: Callable[[Key], Result], window: int, executor: Executor | None = None
) -> Iterator[tuple[Key, Result]]:
    """Each key with its result, in order, computed for up to `window` keys ahead; by default with a thread per core."""
    with executor or ThreadPoolExecutor(cores()) as pool:
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
            for _, future in queue:
                future.cancel()


def batched(items: Iterable[Key], size: int) -> Iterator[list[Key]]:
    """Consecutive runs of at most `size` items, which are taken as they are asked for."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
