"""Write a pretrained network of timm or Hugging Face to an ONNX file, which needs no PyTorch afterwards.

The file is compared with PyTorch on real images before it gets its name. Its pixel contract stands beside it, see
:mod:`featurestore.backbones.sidecar`.
"""

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.base import licence_notes
from featurestore.backbones.sidecar import Sidecar, path_of, write_sidecar
from featurestore.errors import BackboneError, ExportError, WriteError
from featurestore.images.decode import decode_framings
from featurestore.importing.comparing import Difference, compare_file, compare_pixels
from featurestore.importing.onnx_writing import write_onnx
from featurestore.importing.pretrained import Pretrained, import_torch
from featurestore.importing.result import Imported
from featurestore.sources.photographs import photographs
from featurestore.spec import LARGEST_SIZE
from featurestore.system.files import check_writable, replacing_files

TOLERANCE = 1e-3
"""Largest relative difference of a feature that is taken for rounding."""
_SUFFIX = ".onnx"


def import_backbone(
    source: str,
    out: str | os.PathLike[str],
    *,
    size: int | None = None,
    weights: str | None = None,
    check: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Imported:
    """Write a pretrained network to an ONNX file, with its pixel contract beside it.

    Args:
        source: ``timm:NAME``; or ``hf:OWNER/NAME``, perhaps with ``@REVISION``; or ``hf:FOLDER`` that
            ``save_pretrained`` wrote.
        out: file to write; it does not exist yet.
        size: side of its input in pixels, for networks that can take another; by default its own.
        weights: ``random``; or for timm the path of a checkpoint; by default those of the source.
        check: folder of images to compare on; by default, parts of two photographs of scikit-learn's.
        progress: show bars while weights are fetched.

    Raises:
        BackboneError: there is no such network, it takes no images, or not of that size.
        WeightsError: the weights cannot be had, or do not fit.
        ExportError: it cannot be written as ONNX; or the file gives other features, and is deleted.
        WriteError: the file exists already, or cannot be written.
        MissingDependencyError: PyTorch or another library is not installed.

    Example:
        >>> import_backbone("resnet50", "resnet50.onnx")
        Traceback (most recent call last):
        featurestore.errors.BackboneError: resnet50: say where it comes from, as timm:NAME or hf:OWNER/NAME
    """
    kind, _, name = source.partition(":")
    if kind not in ("timm", "hf") or not name:
        raise BackboneError(f"{source}: say where it comes from, as timm:NAME or hf:OWNER/NAME")
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise BackboneError(f"size {size}: it is 1 to {LARGEST_SIZE:,} pixels")
    path = Path(out)
    if path.suffix != _SUFFIX:
        raise WriteError(f"{path}: call it *{_SUFFIX}")
    for file in (path, path_of(path)):
        if os.path.lexists(file):
            raise WriteError(f"{file}: exists already: choose another --out, or delete it")
    check_writable(path)
    torch = import_torch(f"importing {source}")
    from featurestore.importing import hf_models, reaching, timm_models

    if not progress:
        reaching.hide_progress()
    with torch.random.fork_rng(
        devices=[]
    ):  # random weights are the same on every call, and nobody else's numbers change
        pretrained = (timm_models if kind == "timm" else hf_models).load(name, size, weights)
        return _write(pretrained, path, check)


def _write(pretrained: Pretrained, path: Path, check: str | os.PathLike[str] | None) -> Imported:
    contract = pretrained.contract
    pixels, theirs = _prepared(pretrained, check)
    with replacing_files(path) as draft:
        write_onnx(pretrained, draft)
        found = compare_file(draft, pretrained, pixels)
        _check(pretrained, found, len(pixels))
        write_sidecar(draft, _sidecar(pretrained))
        size = sum(file.stat().st_size for file in draft.parent.glob(f"{draft.name}*"))
    parity = None if theirs is None else compare_pixels(pretrained, pixels, theirs)
    return Imported(
        path,
        pretrained.name,
        pretrained.origin,
        size,
        contract.framing.size,
        contract.framing.resize,
        pretrained.shapes,
        pretrained.licence,
        pretrained.revision,
        len(pixels),
        max(each.relative for each in found.values()),
        min(each.cosine for each in found.values()),
        parity.pixels if parity else None,
        parity.share if parity else None,
        parity.cosine if parity else None,
        _notes(pretrained),
    )


def _prepared(
    pretrained: Pretrained, folder: str | os.PathLike[str] | None
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """Return real images as our decoder makes them, and as the original prepares them, if it does for this size."""
    framing, pixels, theirs = pretrained.contract.framing, [], []
    for image in photographs(folder):
        pixels.append(decode_framings(image, [framing])[framing])
        if pretrained.prepare is not None:
            theirs.append(pretrained.prepare(image))
    return np.stack(pixels), np.stack(theirs) if theirs else None


def _check(pretrained: Pretrained, found: dict[str, Difference], images: int) -> None:
    """Refuse a file that gives other features than its network."""
    name, worst = max(found.items(), key=lambda item: (np.isnan(item[1].relative), item[1].relative))
    if not worst.relative <= TOLERANCE:
        raise ExportError(
            f"{pretrained.origin}: the file's {name!r} is {worst.relative:.3g} of its largest value off PyTorch's "
            f"on {images} images, more than {TOLERANCE:g}: the file is deleted; take another network"
        )


def _sidecar(pretrained: Pretrained) -> Sidecar:
    framing = pretrained.contract.framing
    return Sidecar.stating(
        pretrained.contract.preprocessing,
        size=framing.size,
        resize=framing.resize,
        interpolation=framing.interpolation,
        crop_share=framing.crop_share,
        layout="NCHW",
        tokens=pretrained.tokens,
        output="last",
        name=re.sub(r"[^\w.:@=,-]", "-", pretrained.name)[:100],
        licence=pretrained.licence,
        revision=pretrained.revision,
        origin=pretrained.origin,
    )


def _notes(pretrained: Pretrained) -> list[str]:
    return [*pretrained.contract.notes, *licence_notes(pretrained.name, pretrained.licence)]
