"""Images read and decoded ahead of the networks, each once for all that want it: by threads, or by processes."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from featurestore import engines
from featurestore.errors import ImageError, StoreError
from featurestore.extraction.lanes import Pixels
from featurestore.extraction.plan import Item
from featurestore.images import augment, decode
from featurestore.sources.base import Source, brought
from featurestore.sources.samples import Sample
from featurestore.spec import Framing
from featurestore.system.children import safely
from featurestore.system.machine import cores
from featurestore.system.parallel import ahead, batched

CHUNK = 16
"""Images that a process decodes at a time."""

WORTH_PROCESSES = 2048
"""Images from which on processes are started: it takes a second or two."""


class Wish(NamedTuple):
    """What one network needs of an image: these items in this framing, views by this preset."""

    framing: Framing
    preset: str
    items: list[Item]


class Decoded(NamedTuple):
    """Pixels of the items of each wish, and the seconds that it took to read and to decode them."""

    pixels: list[dict[Item, Pixels]]
    read: float
    decode: float


class ImageTask(NamedTuple):
    """The work on one image: what each network needs of it."""

    sample: Sample
    wishes: Sequence[Wish]


def decoder(source: Source) -> Callable[[ImageTask], Decoded]:
    """Return a function that does the work on one image, and that can be sent to another process. An image that cannot
    be read gives its error in place of its pixels.
    """
    return partial(_decode, source)


def _decode(source: Source, task: ImageTask) -> Decoded:
    sample, wishes = task
    start = time.perf_counter()
    between = start
    try:
        with source.reading(sample) as data:
            between = time.perf_counter()
            plain = decode.decode_framings(data, {wish.framing for wish in wishes if wish.items})
        found: list[dict[Item, Pixels]] = [
            {item: augment.view(plain[framing], item.key, preset) if item.number else plain[framing] for item in items}
            for framing, preset, items in wishes
        ]
    except ImageError as error:
        found = [dict.fromkeys(wish.items, error.alone()) for wish in wishes]
    return Decoded(found, between - start, time.perf_counter() - between)


def decode_ahead(source: Source, tasks: Iterable[ImageTask], count: int, window: int) -> Iterator[Decoded]:
    """Decode the images of all tasks, of which there are `count`, in order, up to `window` of them ahead.

    Threads wait for each other at the interpreter's lock a dozen times an image, and 16 of them decode no more than 5
    would alone. A GPU waits for pixels then, so that it gets processes.
    """
    tasks = brought(source, tasks, lambda task: task.sample)
    if not _processes(source, count):
        yield from (found for _, found in ahead(tasks, decoder(source), window))
        return
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.backend import get_context

    processes, lock = cores() - 1, get_context("loky").Lock
    chunks = ((decoder(source.part([task.sample for task in chunk])), chunk) for chunk in batched(tasks, CHUNK))
    try:
        with (
            safely(),
            ProcessPoolExecutor(processes, initializer=_divide, initargs=(processes, lock(), lock())) as pool,
        ):
            for _, found in ahead(chunks, _chunk, max(2 * cores(), window // CHUNK), pool):
                yield from found
    except BrokenExecutor as error:
        raise StoreError(
            f"{source.name}: a process that decodes images died (out of memory?): what is finished is kept; run the "
            "same command again"
        ) from error


def _divide(processes: int, *gates: AbstractContextManager[Any]) -> None:
    """Called in each new process: give it its part of the memory that all of them share."""
    for budget, gate in zip((decode.FILES, decode.PIXELS), gates, strict=True):
        budget.divide(processes, gate)


def _processes(source: Source, count: int) -> bool:
    """Tell whether processes would decode faster than threads, and enough images are left for it to matter."""
    enough = count >= WORTH_PROCESSES and cores() >= 4 and source.portable
    return enough and engines.accelerators() > 0


def _chunk(chunk: tuple[Callable[[ImageTask], Decoded], list[ImageTask]]) -> list[Decoded]:
    work, tasks = chunk
    return [work(task) for task in tasks]
