"""The nearest rows, exactly and in bounded memory, however many rows there are; and the votes that these give.

Strips of rows meet blocks of others in float32 products, and the best few of each row are kept. Those are measured
again in float64, from the differences themselves; where the rounding of the products could have hidden a nearer row,
that row's products are computed again in float64.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from featurestore.system.machine import cores, machine_memory
from heads.feature_table import Floats, Labels
from heads.solvers.lbfgs import Doubles

_STRIP = 2048
"""Rows whose neighbours are looked for at a time: the others are read and scaled once for all of them."""

_MORE = 8
"""Candidates beyond those asked for, so that rounding seldom leaves a doubt."""


@dataclass(frozen=True)
class Side:
    """Rows to compare, wherever they lie.

    Attributes:
        count: how many.
        take: gives those at some of the places 0..count-1, as float32 (n, D).
    """

    count: int
    take: Callable[[Labels], Floats]


class Near(NamedTuple):
    """The nearest rows of each row, the nearest first: distances (R, k), and their places in their side (R, k)."""

    distance: Doubles
    place: Labels


def nearest(
    pairs: Sequence[tuple[Side, Side]],
    k: int,
    metric: str,
    *,
    max_memory: int | None = None,
    deadline: float | None = None,
) -> Iterator[tuple[int, slice, Near]]:
    """The `k` nearest rows on the second side of each pair, for the rows on the first.

    Distances are float64: ``euclidean``, or ``cosine``, which is 1 where a row is all zero. They are 0 for equal rows.

    Args:
        pairs: sides of the same columns; no second side has less than `k` rows.
        k: how many.
        metric: ``cosine`` or ``euclidean``.
        max_memory: bytes to work in; None: half of the machine's.
        deadline: value of ``time.monotonic()`` from which on nothing new is begun; the rest is not given.

    Yields:
        Number of a pair, some rows of its first side, and their neighbours; in any order.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    limit = machine_memory() // 2 if max_memory is None else max_memory
    columns = pairs[0][1].take(np.arange(1)).shape[1]
    strip = _strip(columns, k, limit // cores())
    tasks = [
        (i, slice(start, min(start + strip, asking.count)))
        for i, (asking, _) in enumerate(pairs)
        for start in range(0, asking.count, strip)
    ]
    late = np.inf if deadline is None else deadline

    def run(i: int, rows: slice) -> tuple[int, slice, Near] | None:
        if time.monotonic() >= late:
            return None
        asking, others = pairs[i]
        with np.errstate(over="ignore", invalid="ignore"):  # which are a doubt like others, and cleared up in float64
            half, place = _search(asking.take(np.arange(rows.start, rows.stop)), others, k, metric, strip)
        return i, rows, Near(np.sqrt(2 * half) if metric == "euclidean" else half, place)

    if len(tasks) < 2:  # whose products have all cores
        yield from filter(None, (run(*task) for task in tasks))
        return
    # Threads: NumPy lets go of the interpreter. Its own threads would only be in each other's way.
    with threadpool_limits(1):
        parallel = Parallel(n_jobs=min(cores(), len(tasks)), prefer="threads", return_as="generator_unordered")
        yield from filter(None, parallel(delayed(run)(*task) for task in tasks))


def _strip(columns: int, k: int, memory: int) -> int:
    """How many rows to look at in one task."""
    strip = _STRIP
    # Of a row: itself, its candidates, and half as many others, all but the last more than once.
    while strip > 16 and strip * (24 * columns + 40 * k + 10 * strip) > memory:
        strip //= 2
    return strip


def _search(Q: Floats, others: Side, k: int, metric: str, strip: int, dtype: DTypeLike = np.float32) -> Near:
    """Neighbours of some rows (R, D), by products of this type; for distances, see :func:`_measured`."""
    most = min(k + _MORE, others.count)
    rows, lone = _points(Q, metric, dtype)
    centre = best = place = np.zeros(0, dtype)
    block = max(strip // 2, most)
    for start in range(0, others.count, block):
        some = np.arange(start, min(start + block, others.count))
        points, alone = _points(others.take(some), metric, dtype)
        if not start:  # small numbers keep their digits
            centre = points.mean(axis=0)
            rows -= centre
        points -= centre
        # Half of the squared distance, less what is the row's own.
        far = rows @ points.T
        np.subtract((_squares(points) / 2 + alone).astype(dtype), far, out=far)
        if not start:
            place = np.argpartition(far, most - 1, axis=1)[:, :most]
            best = np.take_along_axis(far, place, axis=1)
        else:
            best, place = _merged(best, place, far, start)
    half = _measured(Q, others, place, metric, strip // 4)
    order = np.lexsort((place, half), axis=1)[:, :k]
    half, place = np.take_along_axis(half, order, axis=1), np.take_along_axis(place, order, axis=1)
    if most < others.count and dtype == np.float32:
        own = _squares(rows)
        doubt = ~(half[:, -1] + _rounding(own, half[:, -1], centre) < own / 2 + lone + best.max(axis=1))
        if doubt.any():
            half[doubt], place[doubt] = _search(Q[doubt], others, k, metric, strip, np.float64)
    return Near(half, place)


def _points(Z: Floats, metric: str, dtype: DTypeLike) -> tuple[Any, Doubles]:
    """Points (R, D) whose squared distances, halved, are the metric, if what they lack (R,) is added.

    Rows of length 1 have the squared distance 2 - 2·cosine; a row of zeros has no direction.
    """
    P = np.array(Z, dtype)
    if metric != "cosine":
        return P, np.zeros(len(P))
    length = np.sqrt(_squares(P))
    np.divide(P, np.where(length > 0, length, 1)[:, None], out=P, dtype=np.float64, casting="same_kind")
    return P, np.where(length > 0, 0, 0.5)


def _squares(P: Any) -> Doubles:
    return np.asarray(np.einsum("nd,nd->n", P, P, dtype=np.float64))


def _merged(best: Any, place: Labels, far: Any, start: int) -> tuple[Any, Labels]:
    """The best (R, most) of those so far and those in a block (R, B)."""
    hits = np.flatnonzero(far < best.max(axis=1, keepdims=True))
    row, column = np.divmod(hits, far.shape[1])
    counts = np.bincount(row, minlength=len(far))
    most = best.shape[1]
    spot = most + np.arange(len(hits)) - np.repeat(counts.cumsum() - counts, counts)
    values = np.full((len(far), most + counts.max()), np.inf, far.dtype)
    places = np.zeros(values.shape, np.intp)
    values[:, :most], places[:, :most] = best, place
    values[row, spot], places[row, spot] = far.ravel()[hits], start + column
    kept = np.argpartition(values, most - 1, axis=1)[:, :most]
    return np.take_along_axis(values, kept, axis=1), np.take_along_axis(places, kept, axis=1)


def _measured(Q: Floats, others: Side, place: Labels, metric: str, count: int) -> Doubles:
    """Half squared distances of rows (R, D) to those at places (R, m), from some differences in float64 at a time."""
    half = np.empty(place.shape)
    size = max(1, count // place.shape[1])
    for start in range(0, len(Q), size):
        part = slice(start, start + size)
        rows, lone = _points(Q[part], metric, np.float64)
        points, alone = _points(others.take(place[part].ravel()), metric, np.float64)
        apart = points.reshape(*place[part].shape, -1)
        apart -= rows[:, None]
        half[part] = np.einsum("rmd,rmd->rm", apart, apart) / 2 + lone[:, None] + alone.reshape(place[part].shape)
    return half


def _rounding(own: Doubles, half: Doubles, centre: Floats) -> Doubles:
    """How far float32 products may be from half a squared distance, for those that are not beyond `half` (R,).

    Such a point is no farther from the centre than the row and that distance together; a sum of products of float32
    numbers errs by their count × the last digit × the lengths of both at most, in whichever order it is taken; unless
    they are so small that digits are lost, or so large that the sum is infinite.
    """
    length = np.sqrt(own)
    reach = length + np.sqrt(2 * half)
    digit, lost = np.finfo(np.float32).eps / 2, 4 * len(centre) * np.finfo(np.float32).tiny
    errors = digit * (len(centre) * length * reach + 16 * (reach + np.linalg.norm(centre)) ** 2) + lost
    return np.where(reach < 1e18, errors, np.inf)


def votes(codes: Labels, distance: Doubles, weights: str, classes: int) -> Doubles:
    """Share of each class (R, C) in the votes of neighbours (R, k); if any are at distance 0, they alone vote.

    Args:
        codes: labels 0..C-1 of the neighbours.
        distance: of the neighbours.
        weights: of a vote: ``uniform``, or ``distance``: its inverse.
        classes: how many.
    """
    vote = np.ones_like(distance)
    if weights == "distance":
        same = distance == 0
        vote = np.where(same.any(axis=1, keepdims=True), same, 1 / np.where(same, 1, distance))
    cells = codes + classes * np.arange(len(codes))[:, None]
    found = np.bincount(cells.ravel(), vote.ravel(), len(codes) * classes).reshape(-1, classes)
    return np.asarray(found / found.sum(axis=1, keepdims=True))
