"""All heads of a preset against the slowest single one of them, fitted alone by ``fit-head``'s own code.

    python tests/benchmarks/mixed_heads.py FILE [--rows 2936] [--preset standard]

Both sides fit on four fifths of the rows and judge on the rest. One head of each kind is fitted alone, the one that
costs most: the greatest C, the most units. Peak memory is that of the sweep, in a process that held the features.
"""

import argparse
import resource
import time
from functools import partial

import numpy as np
from linear_paths import rows_of

from heads.search.judges import batches
from heads.search.judging import Judging
from heads.search.space import expand, load_space
from heads.search.trials import judge_trial
from heads.solvers.folds import Division


def cost(design: object) -> tuple[float, ...]:
    """Greater for designs that take longer, among those of a kind."""
    units = design.params.get("hidden", ())
    return sum(units), design.params.get("C", 0.0), not design.params["standardize"]


def keep(trials, batch, division, i, judged):
    trials.append(judge_trial("", batch[i], division, judged, "accuracy"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=2936)
    parser.add_argument("--preset", default="standard")
    options = parser.parse_args()
    X, y = rows_of(options.file, options.rows, None)
    fold = np.sort(np.random.default_rng(1).permutation(np.arange(len(y)) % 5 == 0).astype(np.intp) - 1)
    division = Division(X, y, fold, np.arange(len(y)), np.ones(len(y), bool))
    designs = expand(load_space(options.preset), 0)
    train, held = fold < 0, fold == 0

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, trials = time.perf_counter(), []

    for judge, batch in batches(designs):
        report = partial(keep, trials, batch, division)
        judge(batch, Judging(division, 0, report))
    together = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scores = {trial.design: trial.mean for trial in trials}

    print("| costliest head of a kind, alone | s | accuracy | in the sweep |\n|---|---|---|---|")
    alone = []
    for kind in dict.fromkeys(design.kind for design in designs):
        design = max((design for design in designs if design.kind == kind), key=cost)
        design.build(0).fit(X[:300], y[:300])  # libraries are loaded
        start = time.perf_counter()
        head = design.build(0).fit(X[train], y[train], validation=(X[held], y[held]))
        alone.append(time.perf_counter() - start)
        accuracy = head.score(X[held], y[held])
        print(f"| {kind} | {alone[-1]:.2f} | {accuracy:.4f} | {scores[design]:.4f} |", flush=True)
    ratio = together / max(alone)
    print(f"\n{len(trials)} heads together: {together:.2f} s, {ratio:.2f} times the slowest of them alone")
    print(f"memory: features {X.nbytes / 1e6:.0f} MB, the sweep's peak {(peak - before) / 1e3:.0f} MB more")


if __name__ == "__main__":
    main()
