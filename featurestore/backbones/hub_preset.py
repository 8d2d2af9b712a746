"""A preset of keras-hub, read as what it is: data from somewhere else, of which nothing is built before it is checked.

A preset is a folder: ``config.json`` tells the network, ``model.weights.h5`` (or several such files) holds its weights,
and ``image_converter.json`` tells how an image becomes its input. Those of Hugging Face may be in the forms of
Transformers or timm instead, which keras-hub converts.
"""

import os
import re
import sys
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.backbones import keras_archive
from featurestore.backbones.hub_families import FAMILIES, Family
from featurestore.backbones.preprocessing import Preprocessing
from featurestore.errors import BackboneError, WeightsError, missing, nearest, one_line
from featurestore.spec import LARGEST_SIZE, Framing, Interpolation, Resize
from featurestore.system import documents
from featurestore.system.files import read_regular, why
from featurestore.system.keras import import_keras, same_random_state, without_stderr
from featurestore.system.machine import machine_memory

if TYPE_CHECKING:
    import keras

CONFIG, CONVERTER, CARD, WEIGHTS = "config.json", "image_converter.json", "README.md", "*.h5"

_MOST_LAYERS = 256
"""Of one kind in a row: a number of a config that tells how many layers are built is not larger."""
_COUNTS = re.compile("depth|layers|blocks|repeats")
_INTERPOLATIONS: dict[str, Interpolation] = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos3": "lanczos"}
_SIZE = 224


def keras_hub(task: str) -> Any:
    """Import keras-hub, which takes seconds.

    Raises:
        MissingDependencyError: it or Keras is not installed.
    """
    import_keras(task)
    if "keras_hub" in sys.modules:
        return sys.modules["keras_hub"]
    try:
        with same_random_state(), without_stderr():
            import keras_hub as module
    except ImportError as error:
        raise missing(task, "keras-hub", "hub") from error
    return module


def is_folder(preset: str) -> bool:
    """Tell whether `preset` is the path of a folder: it has a slash. A name without one is keras-hub's own."""
    return "://" not in preset and any(mark in preset for mark in ("/", os.sep))


def known() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return keras-hub's own presets of image backbones: for each name, the class of its backbone and its metadata."""
    models = keras_hub("the list of presets").models
    found = {
        name: (kind, preset)
        for kind in FAMILIES
        if hasattr(models, kind)
        for name, preset in getattr(models, kind).presets.items()
    }
    return {name: found[name] for name in sorted(found)}


def local_files(preset: str) -> list[Path]:
    """List the files on this machine that a preset may be loaded from; nothing is imported, and nobody is asked."""
    if is_folder(preset):
        places = [Path(preset)]
    elif preset.startswith("hf://"):
        home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
        hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
        places = [*hub.glob(f"models--{preset.removeprefix('hf://').replace('/', '--')}/snapshots/*")]
    else:
        cache = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache/kagglehub") / "models"
        pattern = preset.removeprefix("kaggle://") if "://" in preset else f"*/*/*/{preset}/*"
        places = [*cache.glob(pattern), *cache.glob(f"{pattern}/*")]
    with suppress(OSError):
        return sorted({path for place in places if place.is_dir() for path in place.iterdir() if path.is_file()})
    return []


@dataclass(frozen=True)
class Preset:
    """A preset whose config was read and checked.

    Attributes:
        name: as keras-hub takes it.
        kind: the class of its backbone.
        values: the arguments of that class, or those of its vision tower.
        folder: where its files lie here.
        converts: whether keras-hub converts it from another library's form.
    """

    name: str
    kind: str
    values: dict[str, Any]
    folder: Path
    converts: bool

    @classmethod
    def open(cls, name: str) -> "Preset":
        """Read the config of a preset; where it lies elsewhere, the small files are downloaded.

        Raises:
            BackboneError: there is none, it is of no image backbone, or it asks for code or without measure.
            WeightsError: it cannot be had.
            MissingDependencyError: keras-hub is not installed.
        """
        models = keras_hub(f"the backbone hub:{name}").models
        if is_folder(name):
            _check_folder(name)
        elif "://" not in name and name not in (presets := known()):
            if name in models.Backbone.presets:
                raise BackboneError(f"hub:{name}: a preset of text, sound or whole tasks, and no image backbone")
            here = f", or hub:./{name} for the folder" if Path(name).is_dir() else ""
            raise BackboneError(f"hub:{name}: no such preset: {nearest(name, list(presets))}{here}")
        path = _fetched(name, CONFIG)
        config = _document(path)
        _check(name, config)
        from keras_hub.src.utils.preset_utils import (
            get_preset_loader,
        )  # the one way to learn the class without building

        try:
            loader = get_preset_loader(name)
            kind = loader.check_backbone_class().__name__
            if kind not in FAMILIES:
                raise BackboneError(f"hub:{name}: a preset of {kind}, which is no image backbone")
            converts = hasattr(loader, "converter")
            values = loader.converter.convert_backbone_config(loader.config) if converts else config["config"]
            values = values["vision_encoder"]["config"] if FAMILIES[kind].tower else values
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unusable(name, error) from error
        return cls(name, kind, dict(values), path.parent, converts)

    @property
    def family(self) -> Family:
        """What is known of all presets of its class."""
        return FAMILIES[self.kind]

    @property
    def side(self) -> int | None:
        """The side of the images that it was made for; None where it takes any."""
        shape = self.values.get("image_shape") or (None, None, 3)
        return int(shape[0]) if shape[0] else None

    @property
    def title(self) -> str:
        """What it is called in a spec: a folder by its own name."""
        return Path(self.name).resolve().name if is_folder(self.name) else self.name

    @property
    def identity(self) -> dict[str, Any]:
        """What is computed: the config without what says nothing about that."""
        passed_over = ("name", "trainable", "dtype")
        return {"class": self.kind} | {key: item for key, item in self.values.items() if key not in passed_over}

    @property
    def revision(self) -> str:
        """The version of its files, as Hugging Face or Kaggle names it."""
        return "" if is_folder(self.name) else self.folder.name

    @property
    def licence(self) -> str:
        """As its card states it, and else that of its family."""
        with suppress(OSError):
            text = read_regular(self.folder / CARD, 2**20).decode(errors="replace")
            head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
            stated = dict(re.findall(r"^(license(?:_name)?):[ \t]*([\w .-]+)$", head[1] if head else "", re.MULTILINE))
            if found := stated.get("license_name") or stated.get("license"):
                return str(found).strip()
        return self.family.licence

    def framing(self) -> tuple[Framing, Preprocessing]:
        """Read how an image becomes its input, from the preset's image converter.

        Returns:
            By default, where there is none, the central square at the network's own size, and its family's numbers.

        Raises:
            BackboneError: it asks for something that is not offered here.
        """
        try:
            if not self.converts:
                _check(self.name, _document(_fetched(self.name, CONVERTER)))
            converter = keras_hub("an image converter").layers.ImageConverter.from_preset(self.name)
            values = converter.get_config() if converter else None
        except (FileNotFoundError, WeightsError):
            values = None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _unusable(self.name, error) from error
        if values is None:
            return Framing(self.side or _SIZE, "crop"), Preprocessing.of(self.family.preprocessing)
        height, width = values["image_size"] or (self.side or _SIZE,) * 2
        if height != width or not 1 <= height <= LARGEST_SIZE or values["interpolation"] not in _INTERPOLATIONS:
            raise BackboneError(
                f"hub:{self.name}: its image converter makes {width} × {height} pixels by {values['interpolation']!r}, "
                f"and what is offered are squares of 1 to {LARGEST_SIZE}, by {', '.join(_INTERPOLATIONS)}"
            )
        resize: Resize = "squash"
        if values["crop_to_aspect_ratio"] or values["pad_to_aspect_ratio"]:
            resize = "crop" if values["crop_to_aspect_ratio"] else "pad"
        return Framing(int(height), resize, _INTERPOLATIONS[values["interpolation"]]), _numbers(self.name, values)

    def load(self, size: int, weights: bool) -> "keras.Model":
        """Build the backbone, in float32, for images of this size.

        Args:
            size: the side of its images.
            weights: whether with the preset's own, which may be downloaded now; else with random ones.

        Raises:
            BackboneError: it does not take that size, or would take more memory than its files tell.
            WeightsError: the weights cannot be had.
        """
        own = {} if self.family.tower else {"image_shape": (size, size, 3)}
        models = keras_hub("a preset").models

        def build(load_weights: bool) -> "keras.Model":
            return models.Backbone.from_preset(self.name, load_weights=load_weights, dtype="float32", **own)

        try:
            there = sum(path.stat().st_size for path in self._weight_files()) if weights else 0
            limit, reads = there or machine_memory() // 2, self.family.reads
            keras_archive.check_built(lambda: build(False), limit, reads=reads)
            with redirect_stdout(sys.stderr):
                return build(weights)
        except OSError as error:
            raise _not_had(self.name, error) from error
        except Exception as error:  # whatever keras-hub, Keras and their downloads make of it
            raise _unusable(self.name, error) from error

    def _weight_files(self) -> list[Path]:
        """List the files of its weights, checked; those of other libraries' forms are not HDF5, and not looked at."""
        if self.converts:
            return []
        with suppress(WeightsError):
            _fetched(self.name, "model.weights.h5")
        files = sorted(self.folder.glob(WEIGHTS))
        for file in files:
            keras_archive.check_weights(file)
        return files


def _check_folder(name: str) -> None:
    folder = Path(name)
    if not folder.is_dir():
        raise BackboneError(f"{folder}: no such folder: pass one that save_to_preset wrote, or the name of a preset")
    if not (folder / CONFIG).is_file():
        raise BackboneError(f"{folder} is no preset, it holds no {CONFIG}: pass a folder that save_to_preset wrote")


def _fetched(name: str, file: str) -> Path:
    """Return the path of a preset's file, which may be downloaded now."""
    from keras_hub.src.utils.preset_utils import get_file

    try:
        with redirect_stdout(sys.stderr):
            return Path(get_file(name, file))
    except Exception as error:  # Kaggle, Hugging Face and their clients each raise errors of their own
        raise _not_had(name, error) from error


def _not_had(name: str, error: Exception) -> WeightsError:
    place = "Hugging Face" if name.startswith("hf://") else "Kaggle"
    reason = one_line(error)[:120]
    if is_folder(name):
        return WeightsError(f"{name}: not readable ({reason})")
    login = "`hf auth login`" if place == "Hugging Face" else "KAGGLE_API_TOKEN"
    return WeightsError(
        f"hub:{name} cannot be had from {place} ({reason}): check the network; where its licence is to be accepted, do "
        f"so on its page and log in ({login}); or copy the preset's folder here and pass hub:./FOLDER"
    )


def _unusable(name: str, error: Exception) -> BackboneError:
    if isinstance(error, BackboneError):
        return error
    reason = str(error).rpartition("Exception encountered: ")[2]
    return BackboneError(f"hub:{name} cannot be used as a backbone: {one_line(reason)}")


def _document(path: Path) -> dict[str, Any]:
    try:
        return documents.read(path, dict[str, Any])
    except OSError as error:
        raise BackboneError(f"{path}: {why(error)}") from error
    except ValueError as error:
        raise BackboneError(f"{path}: {one_line(error)}") from error


def _check(name: str, node: Any, key: str = "") -> None:
    """Check that a config names classes of Keras and keras-hub only, no code, and no endless rows of layers.

    Raises:
        BackboneError: it does otherwise.
    """
    if isinstance(node, dict):
        module, kind = node.get("module"), node.get("class_name")
        if kind in ("Lambda", "__lambda__"):
            raise BackboneError(f"hub:{name} holds code, in a Lambda layer, which is not run: save it without")
        if module is not None and str(module).partition(".")[0] not in ("keras", "keras_hub", "builtins"):
            raise BackboneError(
                f"hub:{name} names the class {kind!r} of {module!r}: only Keras' and keras-hub's are used"
            )
        for inner, item in node.items():
            _check(name, item, str(inner))
    elif isinstance(node, list):
        for item in node:
            _check(name, item, key)
    elif isinstance(node, int) and _COUNTS.search(key) and node > _MOST_LAYERS:
        raise BackboneError(f"hub:{name}: its config says {key} {node:,}, more than {_MOST_LAYERS}: it is refused")


def _numbers(name: str, values: dict[str, Any]) -> Preprocessing:
    """Turn ``pixels * scale + offset`` into mean and standard deviation."""

    def three(value: Any, default: float) -> list[float]:
        found = [default] if value is None else value if isinstance(value, list | tuple) else [value]
        return [float(number) for number in found] * (3 if len(found) == 1 else 1)

    scale, offset = three(values["scale"], 1.0), three(values["offset"], 0.0)
    if len(scale) != 3 or len(offset) != 3 or min(scale) <= 0:
        raise BackboneError(f"hub:{name}: its image converter scales by {scale} and adds {offset}, not three channels")
    # Rounded, so that numbers which were inverted once are again what they were.
    std = tuple(round(1 / each, 8) for each in scale)
    mean = tuple(round(-add / each, 8) + 0.0 for add, each in zip(offset, scale, strict=True))
    return Preprocessing((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
