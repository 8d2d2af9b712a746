"""What the benchmarks share: our command line in a process of its own, and how its answers are read."""

import json
import subprocess
import sys
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
