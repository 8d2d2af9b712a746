"""Many dense nets trained at once: a population.

A member is a design on a fold. Members of a fold see the same batches, so that rows are read, scaled and laid out once
for many; each has its own first weights and its own dropout, from the seed alone: a member ends the same whoever is
beside it. Processes share the members out, since threads would wait for the interpreter at each of a step's hundred
small operations.
"""

import pickle
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.system.children import safely
from featurestore.system.machine import cores
from heads.rows import StreamedRows
from heads.solvers.adamw import Net, Pool
from heads.solvers.dense_net import Batches, Member, scores_of, threads_for, train_epoch
from heads.solvers.folds import Division, scratch

Way = tuple[int, bool]
"""A fold, and whether its rows are standardised."""

_CACHED = 350_000
"""Number of weights that are trained side by side: with their moments, they fill a core's share of the L3 cache."""

_WORTH_PROCESSES = 10**11
"""Number of multiplications from which on processes are started: they take as long as the start, a second."""


@dataclass(eq=False)
class Bundle:
    """Members that are trained on the same batches, by one process at a time.

    Attributes:
        members: those that still train.
        batches: what they are trained on.
        folder: where their nets are kept while they wait for others.
    """

    members: list[Member]
    batches: Batches
    folder: Path

    @property
    def cost(self) -> int:
        """How long an epoch takes, relative to other bundles."""
        return sum(member.cost for member in self.members)

    def train(self, until: float, deadline: float, workers: int, threads: int) -> list[Member]:
        """Train until so many epochs are done or the time is over, and return the members as they are then."""
        nets = self._nets()
        going = self.members
        with threads_for(going, threads) as pool:
            while going and going[0].epoch < until and time.monotonic() < deadline:
                self._epoch(going, [nets[member.index] for member in going], pool, deadline, workers)
                going = [member for member in going if not member.stopped]
        if until < inf:
            for member in going:
                self._state(member).write_bytes(pickle.dumps(nets[member.index], protocol=5))
        return self.members

    def _state(self, member: Member) -> Path:
        return self.folder / f"net-{member.fold}-{member.index}"

    def _nets(self) -> dict[int, Net]:
        nets: dict[int, Net] = {}
        for member in self.members:
            state = self._state(member)
            nets[member.index] = pickle.loads(state.read_bytes()) if state.exists() else Net(member.settings)
        return nets

    def _epoch(self, members: list[Member], nets: list[Net], pool: Pool, deadline: float, workers: int) -> None:
        start = time.perf_counter()
        found = train_epoch(members, nets, self.batches, pool, deadline=deadline)
        better = [net for net, scores in zip(nets, found, strict=True) if scores is not None]
        held = iter(scores_of(better, self.batches.held(), pool))
        share = (time.perf_counter() - start) / workers / sum(member.cost for member in members)
        for member, scores in zip(members, found, strict=True):
            member.keep(None if scores is None else next(held))
            member.seconds += share * member.cost


@dataclass(frozen=True)
class Workshop:
    """Where a population is trained.

    Attributes:
        rows: what nets are fitted to in each :data:`Way`; in files, if several processes train.
        folder: of the nets that wait for others.
        workers: number of processes.
        seed: of the batches, and of the rows that tell when to stop.
        max_memory: bytes; features that are larger as float32 are read in chunks, in the file's order, and rows are
            shuffled within their chunk and chunks among themselves. None: they are never too large.
    """

    rows: Mapping[Way, Division]
    folder: Path
    workers: int
    seed: int
    max_memory: int | None

    def bundles(self, members: Iterable[Member]) -> list[Bundle]:
        """Return bundles of members that can share batches, the most costly one first."""
        together: dict[Any, list[Member]] = {}
        for member in members:
            key = member.fold, member.params["standardize"], member.params["batch_size"]
            together.setdefault(key, []).append(member)
        bundles: list[Bundle] = []
        for (fold, standardize, _), same in together.items():
            batches = Batches(self.rows[fold, standardize], fold, standardize, self.seed, self.max_memory)
            # Few read each chunk, or else a core's cache holds the members and each core has several bundles.
            total = sum(member.cost for member in same)
            room = total / self.workers if batches.streamed else min(_CACHED, total / self.workers / 2)
            bundles += [Bundle(some, batches, self.folder) for some in _packed(same, room)]
        return sorted(bundles, key=lambda bundle: -bundle.cost)

    def train(self, bundles: Sequence[Bundle], until: float, deadline: float) -> Generator[list[Member]]:
        """Train bundles until so many epochs are done or the time is over, and yield the members of each as it is done.

        Args:
            bundles: those without members are left out.
            until: number of epochs that each member has had then.
            deadline: value of ``time.monotonic()``.
        """
        from joblib import Parallel, delayed

        going = {place: bundle for place, bundle in enumerate(bundles) if bundle.members}
        threads = max(1, cores() // max(1, min(self.workers, len(going))))
        run = Parallel(n_jobs=self.workers, max_nbytes=None, return_as="generator_unordered")
        how = until, deadline, self.workers, threads
        with safely():
            for place, members in run(delayed(_trained)(place, bundle, *how) for place, bundle in going.items()):
                bundles[place].members = members
                yield members


@contextmanager
def workshop(
    rows: Mapping[Way, Division], members: Iterable[Member], seed: int, max_memory: int | None = None
) -> Iterator[Workshop]:
    """Yield a place to train members in: a folder for their nets, and files of the rows if processes are worth it.

    See :class:`Workshop` for the arguments.
    """
    images = len(next(iter(rows.values())).codes)
    work = 3 * images * sum(member.cost * member.params["epochs"] for member in members)
    workers = cores() if work > _WORTH_PROCESSES else 1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if workers > 1:
            different = {id(each): each for each in rows.values()}
            files = {key: _mapped(each, Path(folder) / f"rows-{key}") for key, each in different.items()}
            rows = {way: files[id(each)] for way, each in rows.items()}
        yield Workshop(rows, Path(folder), workers, seed, max_memory)


def _mapped(division: Division, path: Path) -> Division:
    """Return a division whose rows are in a file."""
    if isinstance(division.X, np.memmap | StreamedRows):
        return division
    X = scratch(path, division.X.dtype, division.X.shape)
    X[:] = division.X
    return replace(division, X=X)


def _packed(members: list[Member], room: float) -> list[list[Member]]:
    """Return members in packs of at most so much cost; a member that costs more is a pack of its own."""
    packs: list[list[Member]] = []
    left = 0.0
    for member in sorted(members, key=lambda member: member.cost, reverse=True):
        left -= member.cost
        if left < 0:
            packs.append([])
            left = room - member.cost
        packs[-1].append(member)
    return packs


def _trained(place: int, bundle: Bundle, *how: Any) -> tuple[int, list[Member]]:
    return place, bundle.train(*how)
