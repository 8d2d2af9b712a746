"""Write a head with its backbone in front as one model, from pixels to probabilities; or the features of a file.

A written model is run again and compared with what the head says of the same images, before it gets its name.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork, licence_notes, onnx_file
from featurestore.engines import Compiler, Compute
from featurestore.errors import ExportError, one_line, suggest
from featurestore.sources.photographs import framed
from featurestore.spec import ExtractionSpec, Framing
from featurestore.system.files import replacing_files
from featurestore.system.keras import without_stderr
from heads import choices
from heads.exporting import features
from heads.exporting.formats.base import PIXELS, Classify, Format, Info
from heads.exporting.formats.registry import FORMATS, usable
from heads.exporting.joined_model import inputs_of, join, nets_of
from heads.exporting.joined_onnx import join_onnx
from heads.exporting.result import Export
from heads.feature_table import Features
from heads.prediction.predictor import load_networks, probabilities, weights_of
from heads.storage.numeric_input import names_of
from heads.storage.saved_head import FittedHead, load_head
from heads.tasks.base import Link

Pixels = NDArray[np.uint8]

TOLERANCE = 1e-3
"""Largest difference of a probability that is taken for rounding."""


def export(
    source: str | os.PathLike[str] | FittedHead,
    form: choices.Format,
    out: str | os.PathLike[str] | None = None,
    *,
    weights: str | Mapping[str, str] | None = None,
    check: str | os.PathLike[str] | None = None,
) -> Export:
    """Write a head as one model, or a feature file in another format.

    Args:
        source: a head, or the folder of one; for the formats of :data:`heads.exporting.features.WRITERS`, a feature
            file.
        form: ``keras``, ``saved_model``, ``onnx``, ``litert`` or ``openvino``: a model from uint8 RGB pixels
            (N, side, side, 3), called ``pixels``, to float32 probabilities (N, classes), called ``probabilities`` (of a
            head of numbers to these, (N, 1), called ``number``). Crops it cuts by itself. Of a head on several looks at
            an image, by several resize rules or sizes, it has an input for each, ``pixels_1`` and so on; see
            :mod:`heads.exporting.formats` for where it stands how they are framed, with the class names. ``npz``,
            ``parquet`` or ``h5ad``: features.
        out: file to write; by default it is called after the source, and lies in the working directory.
        weights: see :class:`heads.prediction.predictor.Predictor`.
        check: folder of images to compare the model on; by default, parts of two photographs of scikit-learn's.

    Raises:
        ExportError: the head or its backbones cannot be one model, or not in this format; or the file gives other
            probabilities, and is deleted.
        MissingDependencyError: the format's libraries are not installed.
        FeatureStoreError: see :class:`heads.prediction.predictor.Predictor` and
            :func:`heads.feature_table.load_features`.

    Example:
        >>> from featurestore import extract
        >>> from heads import export, fit_head
        >>> file = extract("images", "store", backbone="small_cnn", weights="random", size=32, progress=False).path
        >>> written = export(fit_head(file), "keras", "colours.keras", check="images")
        >>> written.path.name, written.images, written.difference < 1e-5
        ('colours.keras', 30, True)
        >>> export("digits.h5", "npz")
        Export(path='digits.npz', format='npz', bytes=...)
    """
    if form in features.WRITERS and not isinstance(source, FittedHead):
        return features.export_features(source, form, out)
    if form not in FORMATS:
        raise ExportError(f"unknown format {form!r}: {suggest(form, (*FORMATS, *features.WRITERS))}")
    folder = (source.path or Path(source.design.kind)) if isinstance(source, FittedHead) else Path(source)
    path = _target(folder, out, FORMATS[form])
    head = source if isinstance(source, FittedHead) else load_head(source)
    if head.numeric:
        raise ExportError(
            f"{folder}: takes the numeric columns {names_of(head.numeric)} beside the image, and a model has one "
            "input, the pixels: use  featurestore predict,  or fit a head without tabular"
        )
    chosen = usable(form, onnx=_of_onnx(head, weights))
    return _export_model(head, chosen, path, weights, check)


def _of_onnx(head: FittedHead, weights: str | Mapping[str, str] | None) -> bool:
    """Return whether the backbones of a head are ONNX files."""
    kinds = {each.endswith(onnx_file.SUFFIX) for each in weights_of(head, weights).values()}
    if len(kinds) > 1:
        raise ExportError(
            f"{head.path}: only some of its backbones are ONNX files: fit a head on backbones of one kind"
        )
    return kinds == {True}


def _export_model(
    head: FittedHead,
    chosen: Format,
    path: Path,
    weights: str | Mapping[str, str] | None,
    check: str | os.PathLike[str] | None,
) -> Export:
    """Write a head with its backbones in front, and compare what the file gives with what the head says."""
    nets = nets_of(head)
    networks = load_networks(head, weights)
    inputs = inputs_of(networks)
    if chosen.save_onnx and _of_onnx(head, weights):
        write = partial(chosen.save_onnx, join_onnx(head, nets, networks))
    else:
        write = partial(chosen.save, join(head, nets, networks))
    pixels, compiler = {framing: framed(check, framing) for framing in inputs.values()}, Compiler()
    features = {
        spec: _features(spec, compiler.compiled(network)[1], pixels[spec.framing]) for spec, network in networks.items()
    }
    unit = 1.0 if head.head.link_ is None else head.head.task_.unit(head.head.link_)
    expected = probabilities(head, features)
    with replacing_files(path) as draft:
        found = _through(write, chosen.load, draft, _info(head, networks), [*pixels.values()])
        difference = float(np.abs(found - expected).max()) / unit
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{path}: differs from what the head says by {difference:.3g} on {len(found)} images, more than "
                f"{TOLERANCE:g}: the file is deleted; {_way_out(networks)}"
            )
        size = sum(file.stat().st_size for file in draft.parent.rglob("*") if file.is_file())
    notes = [note for network in networks.values() for note in licence_notes(network.name, network.licence)]
    return Export(path, chosen.name, size, len(found), difference, tuple(dict.fromkeys(notes)))


def _through(
    write: Callable[[Path, Info], None],
    load: Callable[[Path], Classify],
    draft: Path,
    info: Info,
    pixels: Sequence[Pixels],
) -> NDArray[np.float32]:
    """Write a file, run it on these pixels of its inputs, and return the probabilities."""
    try:
        with without_stderr():
            write(draft, info)
            return load(draft)(*pixels)
    except Exception as error:  # converters fail in whatever way their libraries do
        reason = one_line(error) or type(error).__name__
        raise ExportError(f"{draft.name} cannot be made ({reason}): export to another --format") from error


def _target(source: Path, out: str | os.PathLike[str] | None, form: Format) -> Path:
    """Choose where the file goes; only a file or model is replaced, never a folder of other things."""
    path = Path(out) if out else Path(f"{source.resolve().name}{form.suffix or '-' + form.name}")
    if form.suffix and path.suffix != form.suffix:
        raise ExportError(f"{path}: call it *{form.suffix}, as {form.name} does")
    if path.is_dir() and (form.suffix or not (path / "saved_model.pb").is_file()):
        raise ExportError(f"{path}: is a folder of other things: choose another --out")
    return path


def _features(spec: ExtractionSpec, compute: Compute, pixels: Pixels) -> Mapping[str, Features]:
    """Compute features with the type that a feature file holds them in."""
    return {tap: values.astype(spec.dtype) for tap, values in compute(pixels)().items()}


def _info(head: FittedHead, networks: Mapping[ExtractionSpec, FrozenNetwork]) -> dict[str, Any]:
    """Collect what the user of the file has to know."""
    inputs = {name: _framed(framing) for name, framing in inputs_of(networks).items()}
    licences = {network.name: network.licence for network in networks.values() if network.licence}
    return {
        "class_names": list(head.class_names),
        **({} if head.head.link_ is None else {"task": head.head.task_.name, **_thresholds(head.head.link_)}),
        **inputs.get(PIXELS, {"inputs": inputs}),
        "channels": "RGB",
        "head": head.design.kind,
        "dataset": head.dataset,
        **({} if head.threshold is None else {"threshold": head.threshold}),
        "fingerprints": [item.fingerprint for item in head.inputs],
        **({"licences": licences} if licences else {}),
    }


def _thresholds(link: Link) -> dict[str, list[float]]:
    return {} if link.thresholds is None else {"thresholds": link.thresholds.tolist()}


def _framed(framing: Framing) -> dict[str, Any]:
    """Say how an image becomes the pixels of one input; of crops, how it becomes the square that they are cut from."""
    whole, crops = framing.whole, {"crops": framing.crops} if framing.crops > 1 else {}
    how = {"size": whole.size, "resize": whole.resize, "interpolation": whole.interpolation}
    return {**how, "crop_share": whole.crop_share, **crops}


def _way_out(networks: Mapping[ExtractionSpec, FrozenNetwork]) -> str:
    if any((spec.precision, spec.dtype) != ("float32", "float32") for spec in networks):
        return "the features were computed or stored in less than float32: extract and fit in float32"
    return "export to another --format"
