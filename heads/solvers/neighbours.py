"""The nearest rows, exactly and in bounded memory, however many rows there are; and the votes of these rows.

Strips of rows are multiplied with blocks of others in float32, and the best candidates of each row are kept. Their
distances are computed again in float64, from the differences themselves. If rounding errors of the products could have
hidden a nearer row, the products of that row are computed again in float64.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from featurestore.system.machine import cores, memory_limit
from heads.feature_table import Floats, Labels
from heads.rows import Codes
from heads.solvers.lbfgs import Doubles

_STRIP = 2048
"""The neighbours of so many rows are searched at a time; other rows are read and scaled once for all of them."""

_MORE = 8
"""So many candidates more than asked for are kept, so that rounding errors seldom matter."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: rows that may be in memory or on disk.

    Attributes:
        count: the number of rows.
        take: the function that returns the rows at some places of 0..count-1, as float32 (n, D).
    """

    count: int
    take: Callable[[Labels], Floats]


class Near(NamedTuple):
    """The nearest rows of each row, the nearest first: distances (R, k), and places in the second side (R, k)."""

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
    """Find the `k` nearest rows on the second side of each pair, for each row on the first side.

    Distances are float64, ``euclidean`` or ``cosine``; the cosine distance is 1 if a row is all zero. Equal rows have
    the distance 0.

    Args:
        pairs: sides with the same columns; each second side has at least `k` rows.
        k: the number of neighbours.
        metric: ``cosine`` or ``euclidean``.
        max_memory: bytes that may be used; None for half of the machine's.
        deadline: the ``time.monotonic()`` after which no task is begun; the rows that are left are not yielded.

    Yields:
        The number of a pair, a slice of the rows of its first side, and their neighbours, in any order.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    limit = memory_limit(max_memory)
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
        with np.errstate(over="ignore", invalid="ignore"):  # such rows are computed again in float64
            half, place = _search(asking.take(np.arange(rows.start, rows.stop)), others, k, metric, strip)
        return i, rows, Near(np.sqrt(2 * half) if metric == "euclidean" else half, place)

    if len(tasks) < 2:  # its matrix products use all cores
        yield from filter(None, (run(*task) for task in tasks))
        return
    # Threads, since NumPy releases the lock of the interpreter. BLAS has one thread in each.
    with threadpool_limits(1):
        parallel = Parallel(n_jobs=min(cores(), len(tasks)), prefer="threads", return_as="generator_unordered")
        yield from filter(None, parallel(delayed(run)(*task) for task in tasks))


def _strip(columns: int, k: int, memory: int) -> int:
    """Return how many rows to search for in one task."""
    strip = _STRIP
    # A row needs memory for itself, its candidates and half as many other rows, several times each but for the last.
    while strip > 16 and strip * (24 * columns + 40 * k + 10 * strip) > memory:
        strip //= 2
    return strip


def _search(Q: Floats, others: Side, k: int, metric: str, strip: int, dtype: DTypeLike = np.float32) -> Near:
    """Return the neighbours of some rows (R, D), found by products of this type; see :func:`_measured`."""
    most = min(k + _MORE, others.count)
    rows, lone = _points(Q, metric, dtype)
    centre = best = place = np.zeros(0, dtype)
    block = max(strip // 2, most)
    for start in range(0, others.count, block):
        some = np.arange(start, min(start + block, others.count))
        points, alone = _points(others.take(some), metric, dtype)
        if not start:  # subtracting the mean keeps the digits of small distances
            centre = points.mean(axis=0)
            rows -= centre
        points -= centre
        # Half of the squared distance, without the term that depends on the row alone.
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
    """Return points (R, D) and terms (R,): half a squared distance of points, plus their terms, is the metric.

    Rows of length 1 have the squared distance 2 - 2·cosine; a row of zeros has no direction, and the term 0.5.
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
    """Return the best candidates (R, most) of those so far and those in a block (R, B)."""
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
    """Return half the squared distances of rows (R, D) to those at places (R, m), from differences in float64."""
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
    """Return a bound of the rounding errors of float32 products, for points that are not beyond `half` (R,).

    The distance of such a point from the centre is at most that of the row, plus the distance of both. A sum of n
    products of float32 numbers has an error of at most n × the last digit × the lengths of both vectors, in any order
    of summation, unless numbers are so small that they lose digits, or so large that the sum is infinite.
    """
    length = np.sqrt(own)
    reach = length + np.sqrt(2 * half)
    digit, lost = np.finfo(np.float32).eps / 2, 4 * len(centre) * np.finfo(np.float32).tiny
    errors = digit * (len(centre) * length * reach + 16 * (reach + np.linalg.norm(centre)) ** 2) + lost
    return np.where(reach < 1e18, errors, np.inf)


def votes(codes: Codes, distance: Doubles, weights: str, classes: int) -> Doubles:
    """Return the share of each class in the votes of the neighbours of each row, float64 (R, C).

    Of labels it is the share of the votes of neighbours that have one, and of numbers their weighted mean.

    With weights by distance, neighbours at distance 0 vote alone, if there are any.

    Args:
        codes: those of the neighbours, see :mod:`heads.solvers.goals`: classes (R, k), or (R, k, C).
        distance: the distances of the neighbours (R, k).
        weights: ``uniform`` for equal votes, ``distance`` for votes of 1 / distance.
        classes: the number of classes C.
    """
    vote = np.ones_like(distance)
    if weights == "distance":
        same = distance == 0
        vote = np.where(same.any(axis=1, keepdims=True), same, 1 / np.where(same, 1, distance))
    if codes.ndim == 3:
        labels = codes.dtype == np.int8
        shown = np.asarray(codes > 0 if labels else codes, np.float64)
        found = np.einsum("rk,rkc->rc", vote / vote.sum(axis=1, keepdims=True), shown)
        return np.asarray(np.minimum(found, 1) if labels else found)  # shares, which rounding may bring above 1
    cells = codes + classes * np.arange(len(codes))[:, None]
    found = np.bincount(cells.ravel(), vote.ravel(), len(codes) * classes).reshape(-1, classes)
    return np.asarray(found / found.sum(axis=1, keepdims=True))
