"""32 dense designs, 20 epochs, as one population, against 32 times ``model.fit`` in one process.

    python tests/benchmarks/dense_population.py FEATURE_FILE [--runs 3] [--batch 64]

2,936 rows are taken from the file's plain rows and views, a fifth of the images held out; no design stops early. Both
sides run in processes of their own and in turn; seconds are of the training, processor time is of all threads, and the
import is Keras's, which only the rival needs. The answers are compared, design by design: accuracy and log loss of the
held-out rows at the epoch that is best on the tenth of the training rows that both sides leave out for that.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

from featurestore.system.keras import import_keras
from heads import load_features
from heads.kinds.design import HeadDesign
from heads.solvers.calibration import stratified_folds
from heads.solvers.folds import Division
from heads.solvers.scores import softmax

ROWS, EPOCHS = 2936, 20
HIDDEN = [(), (64,), (128,), (256,), (512,), (256, 64), (512, 128), (128, 128)]


def designs(batch: int) -> list[HeadDesign]:
    """Each shape four times; every other hyperparameter drawn from its range."""
    rng = np.random.default_rng(0)
    return [
        HeadDesign(
            "dense",
            {
                "hidden": hidden,
                "dropout": rng.choice([0.0, 0.2, 0.4, 0.6]),
                "input_dropout": rng.choice([0.0, 0.0, 0.0, 0.3]),
                "learning_rate": 10 ** rng.uniform(-3.5, -2.5),
                "weight_decay": 10 ** rng.uniform(-5, -2),
                "label_smoothing": rng.choice([0.0, 0.1]),
                "batch_norm": bool(number % 2) and hidden != (),
                "batch_size": batch,
                "epochs": EPOCHS,
                "patience": EPOCHS,
            },
        )
        for number in range(4)
        for hidden in HIDDEN
    ]


def rows(file: str) -> Division:
    """Plain rows and views alike; all of one image are held out together."""
    table = load_features(file)
    views, owners = table.views() or (table.X[:0], np.empty(0, int))
    image = np.concatenate([np.arange(len(table.y)), table.rows("train")[owners]])
    X = np.concatenate([np.asarray(table.X), views]).astype(np.float32)
    fold = np.where(stratified_folds(table.y, 5, seed=0) == 0, 0, -1)[image]
    some = np.sort(np.random.default_rng(0).permutation(len(X))[:ROWS])
    return Division(X[some], table.y.astype(int)[image][some], fold[some], np.arange(ROWS), np.ones(ROWS, bool))


def ours(division: Division, batch: int, seed: int) -> dict:
    from heads.search.judge_dense import judge_population
    from heads.search.judging import Judging

    found: dict[int, np.ndarray] = {}
    start = time.perf_counter()
    judge_population(designs(batch), Judging(division, seed, lambda i, judged: found.__setitem__(i, judged.scores)))
    seconds = time.perf_counter() - start
    y = division.codes[division.judged]
    accuracy = [float((found[i].argmax(1) == y).mean()) for i in sorted(found)]
    losses = [float(-np.log(softmax(found[i])[np.arange(len(y)), y]).mean()) for i in sorted(found)]
    return {"seconds": seconds, "accuracy": accuracy, "log_loss": losses}


def rival(division: Division, batch: int, seed: int) -> dict:
    start = time.perf_counter()
    keras = import_keras("the rival")
    importing = time.perf_counter() - start
    Z, y = division.scaling(0, True).apply(division.X), division.codes
    train, held = division.training_rows(0), division.held(0)
    left_out = stratified_folds(y[train], 10, seed) == 0
    stop, train = train[left_out], train[~left_out]
    one_hot = np.eye(division.classes, dtype=np.float32)
    accuracy, losses, seconds = [], [], []
    for number, design in enumerate(designs(batch)):
        start, p = time.perf_counter(), design.params
        keras.utils.set_random_seed(100 * seed + number)
        model = keras.Sequential([keras.Input((Z.shape[1],)), keras.layers.Dropout(p["input_dropout"])])
        for units in p["hidden"]:
            model.add(keras.layers.Dense(units))
            if p["batch_norm"]:
                model.add(keras.layers.BatchNormalization())
            model.add(keras.layers.ReLU())
            model.add(keras.layers.Dropout(p["dropout"]))
        model.add(keras.layers.Dense(division.classes))
        model.compile(
            keras.optimizers.AdamW(p["learning_rate"], weight_decay=p["weight_decay"]),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=p["label_smoothing"]),
            metrics=["accuracy", keras.metrics.CategoricalCrossentropy(from_logits=True, name="log_loss")],
        )
        data = {"validation_data": (Z[stop], one_hot[y[stop]]), "validation_batch_size": 1024}
        best = {"monitor": "val_log_loss", "mode": "min", "restore_best_weights": True}
        keep = keras.callbacks.EarlyStopping(patience=EPOCHS, **best)
        model.fit(Z[train], one_hot[y[train]], batch_size=batch, epochs=EPOCHS, verbose=0, callbacks=[keep], **data)
        found = model.evaluate(Z[held], one_hot[y[held]], batch_size=1024, verbose=0, return_dict=True)
        losses.append(found["log_loss"])
        accuracy.append(found["accuracy"])
        seconds.append(time.perf_counter() - start)
    return {"seconds": sum(seconds), "accuracy": accuracy, "log_loss": losses, "importing": importing}


def peak() -> int:
    """Most memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measured(side: str, seed: int, options: argparse.Namespace) -> dict:
    """One side in a process of its own."""
    command = [
        sys.executable,
        __file__,
        options.file,
        "--batch",
        str(options.batch),
        "--side",
        side,
        "--seed",
        str(seed),
    ]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", choices=["ours", "rival"], help="run one side and print JSON")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.side:
        division = rows(options.file)
        before, start = peak(), time.process_time()
        found = {"ours": ours, "rival": rival}[options.side](division, options.batch, options.seed)
        processor = time.process_time() - start
        print(json.dumps({"importing": 0.0} | found | {"before": before, "peak": peak(), "processor": processor}))
        return
    pairs = [(measured("ours", seed, options), measured("rival", seed, options)) for seed in range(options.runs)]
    print(f"| 32 designs, {EPOCHS} epochs, batch {options.batch} | s | ratio | processor, s | import, s | peak, MB |")
    print("|---|---|---|---|---|---|")
    ratio = statistics.median(theirs["seconds"] / mine["seconds"] for mine, theirs in pairs)
    keys = ("seconds", "processor", "importing", "peak")
    for place, (name, times) in enumerate([("one population", ratio), ("32 × model.fit", 1.0)]):
        seconds, processor, importing, memory = (statistics.median(pair[place][key] for pair in pairs) for key in keys)
        print(f"| {name} | {seconds:.1f} | {times:.1f}× | {processor:.1f} | {importing:.1f} | {memory:.0f} |")
    for key in ("accuracy", "log_loss"):
        mine, theirs = (np.mean([pair[place][key] for pair in pairs], axis=0) for place in (0, 1))
        print(
            f"\n{key} of the held-out rows, mean over the designs: {mine.mean():.4f} against {theirs.mean():.4f}, ",
            end="",
        )
        print(f"largest difference {np.abs(mine - theirs).max():.4f}")
    print(f"\nprocess with the features, before training: {pairs[0][0]['before']} MB")


if __name__ == "__main__":
    main()
