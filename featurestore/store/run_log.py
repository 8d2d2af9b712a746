"""Times and circumstances of runs: lines of JSON beside a feature file, never in it: its bytes tell no times."""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.store.file_format import SUFFIX
from featurestore.system.documents import parse
from featurestore.system.files import open_own, read_regular

_SUFFIX = ".log.jsonl"
_LARGEST = 2**24
"""Bytes of a log that is read: those of a hundred thousand runs."""
_ENOUGH = 5.0
"""Seconds of a run from which on its speed says something."""


@dataclass(frozen=True)
class _Line:
    event: str = ""
    computed: int = 0
    networks: int = 0
    timing: dict[str, float] = field(default_factory=dict)


def log(target: Path, event: str, **values: Any) -> None:
    """Write a line about the feature file `target`. A full disk stops the run elsewhere, not here."""
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, "pid": os.getpid(), **values}
    with suppress(OSError), os.fdopen(open_own(_beside(target), os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a") as file:
        file.write(json.dumps(line) + "\n")


def images_per_second(target: Path) -> float | None:
    """Return how fast the longest run was in which the network of a feature file, or shard, alone computed rows.

    Reading and decoding are part of it, the start is not. None where no such run is known, or none was long enough.
    """
    runs = []
    for path in target.glob(f"*{_SUFFIX}") if target.is_dir() else [_beside(target)]:
        with suppress(OSError):
            for text in read_regular(path, _LARGEST).splitlines():
                with suppress(ValueError):
                    line = parse(text, _Line)
                    if line.event == "end" and line.networks == 1 and line.timing.get("total", 0) >= _ENOUGH:
                        runs.append(line)
    longest = max(runs, key=lambda line: line.computed, default=None)
    return None if longest is None else longest.computed / longest.timing["total"]


def _beside(target: Path) -> Path:
    return target.with_name(target.name.removesuffix(SUFFIX) + _SUFFIX)
