"""Image sets of ``keras.datasets``: ``keras:mnist``, ``keras:fashion_mnist``, ``keras:cifar10``, ``keras:cifar100``.

Where Keras has downloaded one before (``~/.keras/datasets``, or below ``KERAS_HOME``), its files are read here, which
takes no TensorFlow. Otherwise Keras downloads it.
"""

import gzip
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import SourceError, one_line, suggest
from featurestore.sources.arrays import ArraySource
from featurestore.sources.base import Format
from featurestore.sources.npz import read_npz
from featurestore.sources.options import SourceOptions
from featurestore.system.files import open_regular, why
from featurestore.system.keras import import_keras

_PREFIX = "keras:"
_MOST = 512 * 2**20
"""Most bytes of a file: the largest of these has 150 MiB."""

_FASHION = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
_CIFAR10 = "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"
_CIFAR100 = """apple, aquarium_fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus,
butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, crab, crocodile,
cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn_mower,
leopard, lion, lizard, lobster, man, maple_tree, motorcycle, mountain, mouse, mushroom, oak_tree, orange, orchid, otter,
palm_tree, pear, pickup_truck, pine_tree, plain, plate, poppy, porcupine, possum, rabbit, raccoon, ray, road, rocket,
rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake, spider, squirrel, streetcar, sunflower, sweet_pepper,
table, tank, telephone, television, tiger, tractor, train, trout, tulip, turtle, wardrobe, whale, willow_tree, wolf,
woman, worm"""
CLASSES: dict[str, tuple[str, ...]] = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": tuple(_FASHION.split(", ")),
    "cifar10": tuple(_CIFAR10.split(", ")),
    "cifar100": tuple(_CIFAR100.replace("\n", " ").split(", ")),
}
"""Names of the classes, which Keras does not tell: those of the authors."""

Part = tuple[NDArray[np.uint8], NDArray[Any]]
"""Images and labels of training, or of test."""


def keras_folder() -> Path:
    """Return the folder where Keras keeps data sets.

    Example:
        >>> keras_folder().name
        'datasets'
    """
    return Path(os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser(), "datasets")


def read_keras(name: str) -> tuple[Part, Part]:
    """Return images and labels, uint8 (N, H, W) or (N, H, W, 3) and (N,), of training and of test.

    Raises:
        SourceError: there is no such set; its files are damaged; or they are not there, and cannot be downloaded.
    """
    if name not in CLASSES:
        raise SourceError(f"{_PREFIX}{name}: no image set of Keras: {suggest(name, CLASSES)}")
    paths = [folder for each in _PLACES[name] if (folder := keras_folder() / each).exists()]
    if not paths:
        return _downloaded(name)
    try:
        return _READERS[name](paths[0])
    except OSError as error:
        raise SourceError(f"{error.filename or paths[0]}: {why(error)}: delete it, and Keras downloads it") from error
    except (ValueError, KeyError, EOFError, TypeError, AttributeError, IndexError, pickle.UnpicklingError) as error:
        told = one_line(error) or type(error).__name__
        raise SourceError(f"{paths[0]}: damaged ({told}): delete it, and Keras downloads it") from error


def _downloaded(name: str) -> tuple[Part, Part]:
    module = getattr(import_keras(f"{_PREFIX}{name}").datasets, name)
    try:
        train, test = module.load_data()
    except Exception as error:  # whatever a network raises
        raise SourceError(
            f"{_PREFIX}{name}: not in {keras_folder()}, and cannot be downloaded ({one_line(error)}): where there is a "
            f'network run  python -c "import keras; keras.datasets.{name}.load_data()"  and copy that folder'
        ) from error
    return train, test


def _mnist(path: Path) -> tuple[Part, Part]:
    found = read_npz(path)
    split = np.asarray(found["splits"] if found["splits"] is not None else [])
    images, labels = np.asarray(found["images"]), np.asarray(found["labels"])
    if len(split) != len(images):
        raise ValueError("it needs x_train, y_train, x_test and y_test")
    return tuple((images[split == part], labels[split == part]) for part in ("train", "test"))  # type: ignore[return-value]


def _fashion(folder: Path) -> tuple[Part, Part]:
    train, test = (
        (_idx(folder / f"{part}-images-idx3-ubyte.gz"), _idx(folder / f"{part}-labels-idx1-ubyte.gz"))
        for part in ("train", "t10k")
    )
    return train, test


def _idx(path: Path) -> NDArray[np.uint8]:
    """Read an array of bytes in the format of MNIST's authors: 0, 0, 8, dimensions · u32 lengths · values."""
    with open_regular(path, _MOST) as file, gzip.open(file) as values:
        head = values.read(4)
        if head[:3] != b"\0\0\x08":
            raise ValueError("no idx file of bytes")
        shape = [int(n) for n in np.frombuffer(values.read(4 * head[3]), ">u4")]
        size = math.prod(shape)
        data = values.read(min(size, _MOST) + 1)
    if len(data) != size:
        raise ValueError(f"{path.name} is cut off, or damaged")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _cifar10(folder: Path) -> tuple[Part, Part]:
    parts = [_batch(folder / f"data_batch_{i}", b"labels") for i in range(1, 6)]
    train = np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    return train, _batch(folder / "test_batch", b"labels")


def _cifar100(folder: Path) -> tuple[Part, Part]:
    return _batch(folder / "train", b"fine_labels"), _batch(folder / "test", b"fine_labels")


def _batch(path: Path, labels: bytes) -> Part:
    """Read a batch of CIFAR, which is a pickled dict of plain values and one array."""
    with open_regular(path, _MOST) as file:
        found = _Unpickler(file, encoding="bytes").load()
    images = found[b"data"].array.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, np.array(found[labels], np.int64)


class _Array:
    """An array in a pickle: its values as they stand there, and nothing that a pickle asks to be called."""

    def __init__(self, *_: object) -> None:
        self.array = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, raw = state
        if kind.name != b"u1":
            raise ValueError("an array of something else than bytes")
        self.array = np.frombuffer(raw, np.uint8).reshape(shape)


class _Kind:
    """The type of an array in a pickle."""

    def __init__(self, name: bytes | str, *_: object) -> None:
        self.name = name.encode() if isinstance(name, str) else name

    def __setstate__(self, state: object) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Reads pickles that hold plain values and arrays of bytes. Whatever else one names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Callable[..., object]] = {"_reconstruct": _Array, "ndarray": _Array, "dtype": _Kind}
        if module.partition(".")[0] == "numpy" and name in known:
            return known[name]
        if (module, name) == ("_codecs", "encode"):  # as which Python 3 writes bytes for Python 2
            return lambda text, _: text.encode("latin-1")
        raise pickle.UnpicklingError(f"it names {module}.{name}")


_PLACES = {
    "mnist": ["mnist.npz"],
    "fashion_mnist": ["fashion-mnist"],
    "cifar10": ["cifar-10-batches-py-target/cifar-10-batches-py", "cifar-10-batches-py"],
    "cifar100": ["cifar-100-python-target/cifar-100-python", "cifar-100-python"],
}
"""Where Keras 3 and Keras 2 put what they download, in their folder."""
_READERS: dict[str, Callable[[Path], tuple[Part, Part]]] = {
    "mnist": _mnist,
    "fashion_mnist": _fashion,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
}


def _open(where: str, name: str, options: SourceOptions) -> ArraySource:
    called = where.removeprefix(_PREFIX)
    train, test = read_keras(called)
    counts = len(train[0]), len(test[0])
    ids = [f"{word}/{i:05d}" for word, count in zip(("train", "test"), counts, strict=True) for i in range(count)]
    return ArraySource(
        np.concatenate([train[0], test[0]]),
        np.concatenate([np.ravel(train[1]), np.ravel(test[1])]).astype(np.int64),
        name=name,
        class_names=CLASSES[called],
        splits=[key.partition("/")[0] for key in ids],
        ids=ids,
    )


FORMAT = Format(
    called="a keras:NAME",
    recognises=lambda where, options: where.startswith(_PREFIX),
    open=_open,
    name=lambda where: where.removeprefix(_PREFIX) or "keras",
)
