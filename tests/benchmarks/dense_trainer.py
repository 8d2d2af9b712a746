"""Dense heads trained by ``DenseHead`` against the same nets trained by Keras, on the same rows.

    python tests/benchmarks/dense_trainer.py FOLDER [--seeds 5]

FOLDER holds feature files, or folders of them. For each seed a fifth of a file's images is kept for the end; both
sides fit to the others and stop by the same tenth of these, with the same hyperparameters and the same rule. The rival
is what fitted dense heads before: ``keras.Sequential``, ``AdamW``, ``EarlyStopping``; its import is not counted.
Accuracy and log loss (without a temperature) are of the rows kept, the difference is ours minus Keras' with its
standard error over the seeds. Then one large net, on random numbers, for a few epochs: only its time says something.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from featurestore.system.keras import import_keras
from heads import load_features
from heads.kinds.dense import DenseHead
from heads.solvers.arrays import standardise
from heads.solvers.calibration import stratified_folds
from heads.solvers.scores import log_loss

DESIGNS = {"(256,), dropout 0.5": {}, "(512, 512)": {"hidden": (512, 512), "dropout": 0.0}}
LARGE = {"hidden": (1024, 1024), "dropout": 0.5, "epochs": 3}


def ours(head: DenseHead, X: np.ndarray, y: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return head.fit(X, y, temperature=1.0).scores(kept)


def rival(head: DenseHead, X: np.ndarray, y: np.ndarray, kept: np.ndarray) -> np.ndarray:
    keras = import_keras("the rival")
    keras.utils.set_random_seed(head.random_state)
    Z, scaling = standardise(X)
    stop = stratified_folds(y, 10, head.random_state) == 0
    model = keras.Sequential([keras.Input((Z.shape[1],)), keras.layers.Dropout(head.input_dropout)])
    for units in head.hidden:
        model.add(keras.layers.Dense(units))
        if head.batch_norm:
            model.add(keras.layers.BatchNormalization())
        model.add(keras.layers.ReLU())
        model.add(keras.layers.Dropout(head.dropout))
    model.add(keras.layers.Dense(int(y.max()) + 1))
    model.compile(
        optimizer=keras.optimizers.AdamW(head.learning_rate, weight_decay=head.weight_decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="log_loss")],
    )
    best = {"monitor": "val_log_loss", "mode": "min", "restore_best_weights": True}
    model.fit(
        Z[~stop],
        y[~stop],
        batch_size=head.batch_size,
        epochs=head.epochs,
        validation_data=(Z[stop], y[stop]),
        validation_batch_size=max(head.batch_size, 1024),
        callbacks=[keras.callbacks.EarlyStopping(patience=head.patience, **best)],
        verbose=0,
    )
    return np.asarray(model.predict(scaling.apply(kept), verbose=0))


def timed(side, *arguments) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    return side(*arguments), time.perf_counter() - start


def compare(file: Path, params: dict, seeds: int) -> str:
    table = load_features(file)
    X, y = np.asarray(table.X, np.float32), np.unique(table.y, return_inverse=True)[1]
    found = []
    for seed in range(seeds):
        kept = stratified_folds(y, 5, 100 + seed) == 0
        row = []
        for side in (ours, rival):
            scores, seconds = timed(side, DenseHead(**params, random_state=seed), X[~kept], y[~kept], X[kept])
            row.append([(scores.argmax(axis=1) == y[kept]).mean(), log_loss(scores, y[kept]), seconds])
        found.append(row)
    each = np.array(found)  # seeds, sides, values
    mine, keras = each.mean(axis=0)
    difference = each[:, 0] - each[:, 1]
    off, error = difference.mean(axis=0), difference.std(axis=0, ddof=1) / np.sqrt(seeds)
    cells = [f"{mine[i]:.3f} | {keras[i]:.3f} | {off[i]:+.3f} ± {error[i]:.3f}" for i in range(2)]
    return f"{' | '.join(cells)} | {mine[2]:.1f} | {keras[2]:.1f} | {keras[2] / mine[2]:.1f}×"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    import_keras("the rival")
    print("| data set | net | accuracy | Keras | difference | log loss | Keras | difference | s | Keras | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for file in sorted([*options.folder.glob("*.h5"), *options.folder.glob("*/*.h5")]):
        for name, params in DESIGNS.items():
            print(f"| {file.stem.split('--')[0]} | {name} | {compare(file, params, options.seeds)} |", flush=True)
    print("\n| (1024, 1024), 3 epochs, 4,000 rows | s | Keras | ratio |")
    print("|---|---|---|---|")
    rng = np.random.default_rng(0)
    for columns in (1280, 25_088):
        X, y = rng.standard_normal((4000, columns), np.float32), rng.integers(0, 10, 4000)
        times = [timed(side, DenseHead(**LARGE), X, y, X[:100])[1] for side in (ours, rival)]
        print(f"| {columns:,} columns | {times[0]:.1f} | {times[1]:.1f} | {times[1] / times[0]:.1f}× |", flush=True)


if __name__ == "__main__":
    main()
