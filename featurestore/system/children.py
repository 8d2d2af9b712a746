"""Python processes that we start, or that joblib starts for us: none looks for modules in the working directory.

``python -m`` and ``python -c`` look there first, so that a ``json.py`` among a stranger's images would run.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOME = str(Path(__file__).resolve().parents[2])
"""Where a child finds this package, also when it is not installed."""

_before: list[dict[str, str | None]] = []
_lock = threading.Lock()


def environment() -> dict[str, str]:
    """The environment for a Python process that we start, and that imports this package."""
    settings = _settings()
    return os.environ | settings | {"PYTHONPATH": os.pathsep.join(filter(None, [_HOME, settings["PYTHONPATH"]]))}


@contextmanager
def safely() -> Iterator[None]:
    """For libraries that start processes in this process' own environment, which is changed for so long."""
    with _lock:
        settings = _settings()
        _before.append({name: os.environ.get(name) for name in settings})
        os.environ.update(settings)
    try:
        yield
    finally:
        # Threads may leave in another order than they came: the last one to leave takes what the first one found.
        with _lock:
            for name, value in _before.pop().items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _settings() -> dict[str, str]:
    # An empty entry stands for the working directory, and is seldom meant; the others are the user's.
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(given)}
