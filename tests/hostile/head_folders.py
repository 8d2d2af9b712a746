"""Small good heads and runs of each kind, made once, which makers then spoil."""

import json
from pathlib import Path

import numpy as np
from feature_files import write_features
from tasks_asked import asked_file

from heads import evaluate, fit_head, sweep
from heads.kinds.design import KINDS

SPACE = """
[[heads]]
kind = "logreg"
C = [0.001, 0.1]
[[heads]]
kind = "knn"
n_neighbors = [3, 5]
[[heads]]
kind = "dense"
hidden = [[], [4]]
epochs = 3
"""
QUICK = {"dense": {"epochs": 2, "hidden": "6,4"}}
OTHER_TASKS = {"multilabel": "logreg", "regression": "ridge"}
COLUMNS = 8


def write_all(folder: Path) -> Path:
    """A feature file, a head of each kind, sweeps with one head and with several, a fine-tuned model."""
    rng = np.random.default_rng(0)
    y = np.resize([0, 1, 2], 120)
    X = (rng.normal(size=(3, COLUMNS))[y] * 2 + rng.normal(size=(120, COLUMNS))).astype(np.float32)
    splits = np.resize(["train", "train", "validation", "test"], 120)
    file = write_features(folder / "f.h5", X, y, splits, class_names=["a", "b", "c"])
    for kind in KINDS:
        fit_head(file, kind, params=QUICK.get(kind, {}), out=folder / kind)
    (folder / "space.toml").write_text(SPACE)
    sweep(file, folder / "run", space=folder / "space.toml")
    sweep(file, folder / "several", space=folder / "space.toml", ensemble=3)
    for task, kind in OTHER_TASKS.items():
        fit_head(asked_file(folder, task, columns=COLUMNS), kind, out=folder / task)
    write_tuning(folder, evaluate(folder / "logreg", file).to_dict())
    return folder


def write_tuning(folder: Path, measured: dict) -> None:
    """A fine-tuned model, as it would be: training one takes TensorFlow, and minutes."""
    fit_head(folder / "f.h5", "logreg", out=folder / "tuned" / "head")
    epoch = {"epoch": 0, "loss": None, "log_loss": 0.5, "accuracy": 0.7, "seconds": 0.0}
    values = {
        "frozen": measured,
        "finetuned": measured,
        "difference": {"accuracy": 0.0, "interval": [-0.1, 0.1], "right": 1, "wrong": 1, "p_value": 1.0},
        "recommendation": "keep the frozen head",
        "history": [epoch, epoch | {"epoch": 1, "loss": 0.4, "log_loss": 0.45}],
        "best_epoch": 1,
        "boundary": "block",
        "memory": 10**9,
        "seconds": {"material": 1.0, "training": 2.0, "epoch": 1.0},
        "notes": ["one note"],
        "failures": [["a.png", "truncated"]],
        "settings": {"unfreeze": "last-block", "epochs": 1, "seed": 0, "augment": None},
        "path": str(folder / "tuned" / "head"),
        "backbone": "tuned.keras",
    }
    (folder / "tuned" / "finetune.json").write_text(json.dumps(values, indent=1))
