"""Memory that threads, or processes, share: who would take more than is left waits."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any


class Budget:
    """So many bytes for all threads together, or all processes.

    One alone always gets what it asks for, so that nobody waits for ever; an image or a file larger than the budget
    goes by itself. Who holds a share must not ask for another of the same budget.

    Args:
        total: bytes to share.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._freed = threading.Condition()
        self._gate: AbstractContextManager[Any] = nullcontext()

    def divide(self, processes: int, gate: AbstractContextManager[Any]) -> None:
        """Called in each of some processes that share a budget: each has its part; who asks for more takes the gate."""
        self.total, self._gate = self.total // processes, gate

    @contextmanager
    def share(self, size: int) -> Iterator[None]:
        """Hold `size` bytes of the budget, as soon as they are free."""
        with self._gate if size > self.total else nullcontext(), self._taken(size):
            yield

    @contextmanager
    def _taken(self, size: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: not self._used or self._used + size <= self.total)
            self._used += size
        try:
            yield
        finally:
            with self._freed:
                self._used -= size
                self._freed.notify_all()
