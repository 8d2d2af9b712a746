"""What the benchmarks share: our command line in a process of its own, and how its answers are read."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLI = Path(__file__).parents[2] / "cli.py"


def featurestore(*arguments: object) -> dict:
    """Run a command with ``--json``."""
    done = subprocess.run([sys.executable, CLI, *map(str, arguments), "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def labels_of(folder: Path) -> list[object]:
    """The option that names a folder's manifest, if it has one."""
    return ["--labels", folder / "labels.csv"] if (folder / "labels.csv").exists() else []


def held_out(extraction: dict) -> str:
    """The split to be judged on: test, or validation where there are no test rows."""
    return "test" if any(counts.get("test") for counts in extraction["classes"].values()) else "validation"


def accuracy(evaluation: dict) -> str:
    """Accuracy with its interval, or with why it has none."""
    found = evaluation["intervals"].get("accuracy")
    around = f"{found[0]:.3f}–{found[1]:.3f}" if found else evaluation["without_interval"]["accuracy"]
    return f"{evaluation['accuracy']:.3f} ({around})"


def own_memory(*arguments: object) -> tuple[int, float, str]:
    """Run our command line and watch how much memory it takes, see :func:`watched`."""
    return watched([sys.executable, CLI, *arguments])


def watched(command: list[object]) -> tuple[int, float, str]:
    """Run a command and watch from outside how much memory it takes.

    Returns:
        The peak of the anonymous memory (RssAnon of Linux) of the process and those that it starts, in bytes: what the
        kernel cannot drop, without mapped files. Seconds; and what it wrote on standard output.
    """
    start = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(CLI.parent)}
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, env=environment)
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_anonymous, _family(process.pid))))
            time.sleep(0.005)
        out.seek(0)
        text = out.read().decode()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, text)
    return peak, time.monotonic() - start, text


def _family(pid: int) -> list[int]:
    """A process and all that it has started."""
    try:
        children = [each.read_text().split() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return []
    return [pid, *(one for some in children for child in some for one in _family(int(child)))]


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
