"""Designs that cannot be judged on the rows of a sweep are skipped, with one sentence for each reason."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from heads.kinds.design import HeadDesign
from heads.search.samplers import Search
from heads.search.trials import Trial
from heads.solvers.arrays import Extent
from heads.tasks.registry import TASKS


class Skipped:
    """The designs that a search asks for and that cannot be judged, see :meth:`heads.kinds.base.Head.obstacle`.

    Args:
        extents: number of rows, columns and classes of each table, by its name.
        search: its first round is looked at now; without a sampler, that is all of it.
        known: trials of designs that are judged already, which are not skipped.
        max_memory: bytes that may be used; None for half of the machine's.
        note: is called with each sentence once, as soon as it is known.
    """

    def __init__(
        self,
        extents: Mapping[str, Extent],
        search: Search,
        known: Iterable[Trial],
        max_memory: int | None,
        note: Callable[[str], None] | None,
    ) -> None:
        self._extents, self._max_memory = extents, max_memory
        self._note = note or (lambda _: None)
        self._known = {trial.key for trial in known}
        self._why: dict[tuple[str, HeadDesign], tuple[str, str]] = {}
        self._told: set[tuple[str, str]] = set()
        for name in extents:
            self._find(name, next(iter(search.rounds(lambda _: None)), []))
        self._tell()

    def sift(self, table: str, designs: Iterable[HeadDesign]) -> set[HeadDesign]:
        """Return those of some designs that cannot be judged on a table."""
        found = self._find(table, designs)
        self._tell()
        return found

    def __len__(self) -> int:
        """Return the number of skipped designs, each counted once for each table."""
        return len(self._why)

    @property
    def notes(self) -> list[str]:
        """One sentence for each kind of head and reason."""
        return [*self._sentences().values()]

    def _find(self, table: str, designs: Iterable[HeadDesign]) -> set[HeadDesign]:
        found = set()
        for design in designs:
            head, extent = design.build(), self._extents[table]
            # The winner is fitted alone in the end.
            why = (
                head.unfit_for(TASKS[extent.task])
                or head.obstacle(extent, self._max_memory)
                or head.obstacle_alone(extent, self._max_memory)
            )
            if why and (table, design) not in self._known:
                self._why[table, design] = design.kind, why
                found.add(design)
        return found

    def _tell(self) -> None:
        for reason, sentence in self._sentences().items():
            if reason not in self._told:
                self._told.add(reason)
                self._note(sentence)

    def _sentences(self) -> dict[tuple[str, str], str]:
        return {
            (kind, why): f"{count} {kind} {'head is' if count == 1 else 'heads are'} skipped: {why}"
            for (kind, why), count in Counter(self._why.values()).items()
        }
