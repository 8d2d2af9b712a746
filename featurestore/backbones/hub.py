"""``hub:NAME``: the image backbones of keras-hub, from presets by name, from Kaggle, Hugging Face, or a folder.

The text towers of CLIP and SigLIP are built with the rest, since their weights stand in one file, and dropped. Their
``last`` is the image's embedding; CLIP's ``pooled`` is what its paper's linear probes take (Radford et al., "Learning
transferable visual models from natural language supervision", ICML 2021).
"""

import json
import re
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.backbones.base import Weights
from featurestore.backbones.hub_families import FAMILIES, trunk
from featurestore.backbones.hub_preset import Preset, is_folder, known, local_files
from featurestore.backbones.keras_network import KerasArchitecture, load_weights
from featurestore.backbones.preprocessing import Preprocessing
from featurestore.errors import BackboneError, missing

if TYPE_CHECKING:
    import keras

PREFIX = "hub:"
_SMALLEST = 32


def architecture(name: str, preprocessing: str | None = None) -> KerasArchitecture:
    """Find out what the registry needs to know of a preset.

    Args:
        name: ``hub:`` and the name of a preset, ``kaggle://…``, ``hf://…``, or the path of a folder that
            ``save_to_preset`` wrote, with a slash (``hub:./mine``).
        preprocessing: the name of one, in place of the preset's own.

    Returns:
        ``build`` takes ``imagenet`` for the preset's own weights. In a spec a folder is called by its own name.

    Raises:
        BackboneError, WeightsError, MissingDependencyError: see :meth:`Preset.open`.
    """
    preset = Preset.open(name.removeprefix(PREFIX))
    framing, numbers = preset.framing()
    family, size = preset.family, framing.size if preset.family.resizable else preset.side or framing.size
    return KerasArchitecture(
        PREFIX + preset.title,
        size,
        (preset.values.get("patch_size") or _SMALLEST) if family.resizable else size,
        Preprocessing.of(preprocessing).name if preprocessing else numbers.name,
        None,
        "in the folder" if is_folder(preset.name) else "keras-hub downloads",
        resize=framing.resize,
        interpolation=framing.interpolation,
        tokens=family.tokens(preset.values) if family.tokens else None,
        licence=preset.licence,
        revision=preset.revision,
        build=partial(_build, preset),
        file=PREFIX + preset.name if is_folder(preset.name) else None,
        config=json.dumps(preset.identity, sort_keys=True),
    )


def _build(preset: Preset, size: int, weights: Weights) -> "keras.Model":
    family, patch = preset.family, preset.values.get("patch_size") if preset.family.tokens else None
    if not family.resizable and preset.side not in (None, size):
        raise BackboneError(
            f"hub:{preset.name} takes {preset.side} pixels, and its position embeddings are not interpolated: "
            f"pass --size {preset.side}, or none"
        )
    if isinstance(patch, int) and size % patch:
        nearest = max(1, round(size / patch)) * patch
        raise BackboneError(f"hub:{preset.name} takes sizes that are multiples of {patch}: pass --size {nearest}")
    backbone = preset.load(size, weights == "imagenet")
    if isinstance(weights, Path):
        load_weights(backbone, weights, preset.title)
    return trunk(family, backbone, size, preset.title.rpartition("/")[2] or "backbone")


def files(name: str) -> list[Path]:
    """List the files that a preset's network depends on, as far as they are on this machine."""
    return local_files(name.removeprefix(PREFIX))


def absolute(name: str) -> str:
    """Return the same name for a process that runs in another folder."""
    preset = name.removeprefix(PREFIX)
    return PREFIX + str(Path(preset).absolute()) if is_folder(preset) else name


def table() -> list[dict[str, str | int | None]]:
    """List keras-hub's own presets, see :func:`featurestore.backbones.table`.

    Sizes and widths are those that the names tell; the presets' own files, which tell them all, lie elsewhere.

    Raises:
        MissingDependencyError: keras-hub is not installed.
    """
    if not find_spec("keras_hub"):
        raise missing("the list of presets", "keras-hub", "hub")
    return [
        {
            "backbone": PREFIX + name,
            "size": _told(r"_(?:r|patch\d+_|window\d+_)?(\d{3})(?:_|$)", name),
            "min_size": None,
            "width": _width(kind, name),
            "weights": preset["kaggle_handle"],
            "licence": FAMILIES[kind].licence,
        }
        for name, (kind, preset) in known().items()
    ]


_WIDTHS = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "huge": 1280, "so400m": 1152, "giant": 1536}
"""Of vision transformers by the word for their size (Zhai et al., "Scaling vision transformers", CVPR 2022)."""


def _width(kind: str, name: str) -> int | None:
    plain = kind in ("DINOV2Backbone", "DINOV3Backbone", "SigLIPBackbone", "ViTBackbone", "DeiTBackbone")
    return next((width for word, width in _WIDTHS.items() if f"_{word}_" in f"{name}_"), None) if plain else None


def _told(pattern: str, name: str) -> int | None:
    found = re.search(pattern, name)
    return int(found[1]) if found else None
