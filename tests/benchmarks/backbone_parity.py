"""Each network of ``keras.applications`` here against Keras' own model and preprocessing: same pixels, same weights.

    PYTHONPATH=. python tests/benchmarks/backbone_parity.py [NAME ...]

Prints a Markdown table, at each network's default size, with random weights and one image.
"""

import gc
import sys
import time
from dataclasses import dataclass

import numpy as np

from featurestore.backbones import applications, find
from featurestore.backbones.graph import tap_table
from featurestore.backbones.preprocessing import PREPROCESSINGS
from featurestore.system.keras import import_keras


@dataclass
class Parity:
    difference: float
    """The largest, relative to the largest feature."""
    parameters: int
    flops: int
    width: int


def parity(name: str, size: int | None = None) -> Parity:
    """Build `name`, of keras.applications and perhaps with options, on both sides and compare the feature maps."""
    keras = import_keras("parity")
    architecture = find(name)
    size = size or architecture.size
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    trunk = architecture.build(size, "random")
    pixels = keras.Input((size, size, 3), dtype="uint8")
    ours = keras.Model(pixels, trunk(PREPROCESSINGS[architecture.preprocessing](pixels)))
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    ours.run_eagerly = True  # tracing takes far longer than one batch
    got = ours.predict(images, verbose=0)

    base, _, text = architecture.name.partition(":")
    functions = {function.lower(): function for function in dir(keras.applications) if not function.islower()}
    function = getattr(keras.applications, functions[base.replace("_", "")])
    options = {key: float(value) for key, value in (option.split("=") for option in text.split(",") if option)}
    plain = function(include_top=False, weights=None, input_shape=(size, size, 3), **options)
    plain.set_weights(trunk.get_weights())
    plain.run_eagerly = True
    prepare = getattr(keras.applications, function.__module__.rpartition(".")[2]).preprocess_input
    expected = plain.predict(prepare(images.astype("float32")), verbose=0)
    return Parity(
        float(np.abs(got - expected).max() / np.abs(expected).max()),
        trunk.count_params(),
        tap_table(trunk)[-1]["flops"],
        got.shape[-1],
    )


def main(names: list[str]) -> None:
    print("| backbone | size | largest relative difference | parameters (M) | GFLOPs | width |")
    print("|---|---|---|---|---|---|")
    for name in names:
        start, p = time.perf_counter(), parity(name)
        print(
            f"| {name} | {find(name).size} | {p.difference:.1e} | {p.parameters / 1e6:.1f} | {p.flops / 1e9:.2f} "
            f"| {p.width} |",
            flush=True,
        )
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        gc.collect()


if __name__ == "__main__":
    variants = ["mobilenet:alpha=0.25", "mobilenet_v2:alpha=0.35"]
    main(sys.argv[1:] or [a.name for a in applications.ARCHITECTURES] + variants)
