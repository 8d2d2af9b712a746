"""What 20,000 classes cost: time and peak memory of each command, in a process of its own.

    python tests/benchmarks/many_classes.py [--classes 20000] [--columns 256] [--commands fit-head:logreg probe ...]

Five rows a class (three to train on, one for validation, one for the test), a centre and noise, rectified as pooled
features are. ``processor`` are the seconds that the cores worked, whatever else the machine did.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import CLI

sys.path.append(str(Path(__file__).parents[1] / "heads"))
from feature_files import write_features

COMMANDS = [f"fit-head:{kind}" for kind in ("centroid", "lda", "knn", "svm", "logreg", "ridge")]
COMMANDS += ["evaluate", "probe", "sweep:quick"]


def features(path: Path, classes: int, columns: int) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(classes), 5))
    centres = 0.6 * rng.standard_normal((classes, columns), np.float32)
    X = np.maximum(centres[labels] + 0.9 * rng.standard_normal((len(labels), columns), np.float32), 0)
    splits = np.empty(len(labels), "U10")
    splits[np.argsort(labels, kind="stable")] = np.resize(["train"] * 3 + ["validation", "test"], len(labels))
    return write_features(path, X, labels, splits, class_names=[f"class {i}" for i in range(classes)])


def arguments(command: str, file: Path, work: Path) -> list[object]:
    name, _, what = command.partition(":")
    match name:
        case "fit-head":
            return [name, file, "--head", what, "--out", work / what]
        case "evaluate":
            return [name, work / "centroid", file]
        case "sweep":
            return [name, file, "--preset", what, "--out", work / "run"]
        case _:
            return [name, file]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--commands", nargs="+", default=COMMANDS)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    file = features(work / "many.h5", options.classes, options.columns)
    print("| command | s | processor, s | peak, GB | status |\n|---|---|---|---|---|")
    for command in options.commands:
        start = time.perf_counter()
        given = map(str, arguments(command, file, work))
        with (work / "output").open("wb") as output:
            process = subprocess.Popen([sys.executable, CLI, *given], stdout=output, stderr=output)
            _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        row = command.replace(":", " "), f"{seconds:.0f}", f"{used.ru_utime + used.ru_stime:.0f}"
        print("|", " | ".join((*row, f"{used.ru_maxrss / 1e6:.2f}", str(os.waitstatus_to_exitcode(status)))), "|")
        print((work / "output").read_text()[-400:], file=sys.stderr)


if __name__ == "__main__":
    main()
