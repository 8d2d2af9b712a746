"""The memory of fits, of a sweep and of an evaluation, measured from outside, with a limit and without.

    python tests/benchmarks/fit_memory.py FEATURES.h5 [--limits 100MB 200MB] [--kinds logreg lda …]
    python tests/benchmarks/fit_memory.py --made 1280000 --limits 2GB --kinds logreg

Own memory is the peak of anonymous memory (see common.own_memory) over that of the same command on a file of 400 rows
and 8 columns, which has loaded the same libraries. With `--made`, features of so many rows, 1,280 columns and 1,000
classes are made first, in the working folder or that of `--work`. A kind that cannot hold a limit says so.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from common import own_memory
from made_features import make

from heads.console.options import size
from heads.kinds.design import KINDS

SPACE = """
[[heads]]
kind = "logreg"
C = [0.001, 0.01]
[[heads]]
kind = "ridge"
[[heads]]
kind = "linear-svm"
[[heads]]
kind = "lda"
[[heads]]
kind = "centroid"
[[heads]]
kind = "knn"
[[heads]]
kind = "svm"
[[heads]]
kind = "dense"
hidden = [[64], [256]]
epochs = 3
"""


class Bench:
    """Commands on one feature file, each measured against the same command on a small one."""

    def __init__(self, file: Path, work: Path) -> None:
        self._file, self._work = file, work
        self._small = make(work / "small.h5", 400, 8, 10)
        (work / "space.toml").write_text(SPACE)

    def fit(self, kind: str, limit: str) -> str:
        """Fit a head, and evaluate it."""
        head, small = self._work / f"{kind}-{limit}", self._work / f"{kind}-small"
        bounds = [] if limit == "none" else ["--max-memory", limit]
        cells = self._run(
            f"fit-head {kind}", limit, ["fit-head", small, "--head", kind], ["fit-head", head, "--head", kind, *bounds]
        )
        if head.exists():
            cells += "\n" + self._run(f"evaluate {kind}", limit, ["evaluate", small], ["evaluate", head, *bounds])
        return cells

    def sweep(self, limit: str) -> str:
        """A sweep of some designs of each family."""
        bounds = [] if limit == "none" else ["--max-memory", limit]
        space = ["--space", self._work / "space.toml", "--cv", "5"]
        return self._run(
            "sweep",
            limit,
            ["sweep", self._work / f"s-small-{limit}", *space],
            ["sweep", self._work / f"s-{limit}", *space, *bounds],
        )

    def _run(self, name: str, limit: str, small: list[object], large: list[object]) -> str:
        before, _, _ = own_memory(*self._command(small, self._small))
        try:
            peak, seconds, text = own_memory(*self._command(large, self._file))
        except subprocess.CalledProcessError:
            return f"| {name} | {limit} | refused | |"
        found = json.loads(text)
        if name.startswith("evaluate"):
            what = f"accuracy {found['accuracy']:.4f}"
        elif name == "sweep":
            what = (
                f"winner {found['winner']['design']['kind']} {found['winner']['mean']:.4f}; {'; '.join(found['notes'])}"
            )
        else:
            what = f"train log loss {found['metrics'].get('train', {}).get('log_loss', float('nan')):.6f}"
        held = "" if limit == "none" else (" (holds)" if peak - before <= size(limit) else " (**does not hold**)")
        return f"| {name} | {limit} | {(peak - before) / 1e6:,.0f} MB{held} | {seconds:.1f} s | {what} |"

    def _command(self, words: list[object], file: Path) -> list[object]:
        command, place, *options = words
        if command == "evaluate":
            return [command, place, file, "--json", *options]
        return [command, file, "--out", place, "--json", *options]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--made", type=int, default=None, help="rows of a made file, instead of FILE")
    parser.add_argument("--limits", nargs="+", default=["none", "200MB"])
    parser.add_argument("--kinds", nargs="*", default=[kind for kind in KINDS if kind != "ensemble"])
    parser.add_argument("--sweep", action="store_true", help="measure a sweep too")
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        file = options.file or make(work / "made.h5", options.made, 1280, 1000)
        bench = Bench(file, work)
        print("| command | limit | own memory | time | result |\n|---|---|---|---|---|")
        for limit in options.limits:
            for kind in options.kinds:
                print(bench.fit(kind, limit), flush=True)
            if options.sweep:
                print(bench.sweep(limit), flush=True)


if __name__ == "__main__":
    main()
