"""Where the time of a run goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock


@dataclass
class Timing:
    """Seconds of a run's loop over the images.

    Attributes:
        read, decode: of all threads together; they run while the network does.
        forward: with a batch in the network.
        write: into journals, while the network runs.
        total: wall time.
    """

    read: float = 0.0
    decode: float = 0.0
    forward: float = 0.0
    write: float = 0.0
    total: float = 0.0
    _busy_until: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def add(self, part: str, seconds: float) -> None:
        """Count time that was measured elsewhere; from any thread."""
        with self._lock:
            setattr(self, part, getattr(self, part) + seconds)

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Count the time spent inside; from any thread."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - start)

    def ran(self, start: float) -> None:
        """Count a batch, started at `start` and finished now. Batches overlap on a device, but end in order."""
        now = time.perf_counter()
        with self._lock:
            self.forward += now - max(start, self._busy_until)
            self._busy_until = now

    def to_dict(self) -> dict[str, float]:
        """Return the parts, with ``idle``: the time in which no batch was in the network."""
        parts = {name: getattr(self, name) for name in ("read", "decode", "forward", "write", "total")}
        return {name: round(value, 3) for name, value in {**parts, "idle": max(0.0, self.total - self.forward)}.items()}
