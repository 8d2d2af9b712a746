"""Small inputs and readers that several tests of stage 2 share."""

import json

import numpy as np

from heads.solvers.scores import softmax


def random_case(classes, rows, seed, digits=1):
    """Labels and probabilities that are right more often than not, with ties."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=rows)
    scores = rng.normal(size=(rows, classes))
    scores[np.arange(rows), y] += 1
    return y, softmax(np.round(scores, digits))


def linear(path, *kinds):
    """A space of some kinds."""
    path.write_text("".join(f"[[heads]]\nkind = '{kind}'\n" for kind in kinds))
    return path


def table(found):
    """All of the trials but their times."""
    return [{**trial.to_dict(), "seconds": 0} for trial in found.trials]


def logged(out):
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
