"""A head with its backbone in front as one model in a file, from pixels to probabilities; or a file's features.

A written model is run again and compared with what the head says of the same images, before it gets its name.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import Backbone
from featurestore.backbones.architecture import one_line
from featurestore.engines import compile_backbone
from featurestore.errors import ExportError, ImageError, SourceError, suggest
from featurestore.images.decode import decode, decode_sizes, read_file
from featurestore.spec import ExtractionSpec, Tap
from featurestore.system.files import replacing_files
from featurestore.system.keras import import_keras, without_stderr
from heads.console import text
from heads.exporting import features, model_formats
from heads.feature_table import Features
from heads.kinds.design import kinds_of_layers
from heads.prediction.predictor import find_images, load_networks, probabilities
from heads.solvers.arrays import Layers
from heads.storage.saved_head import FittedHead, load_head

TOLERANCE = 1e-3
"""Largest difference of a probability that is taken for rounding."""
CHECKED = 32
"""Most images that a file is compared on."""

_ABSENT = -1e9
"""Score of a class that the head was not shown: its probability is 0."""


def export(
    source: str | os.PathLike[str],
    form: str,
    out: str | os.PathLike[str] | None = None,
    *,
    weights: str | Mapping[str, str] | None = None,
    check: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Write a head as one model, or a feature file in another format.

    Args:
        source: folder of a saved head; for the formats of :data:`heads.exporting.features.WRITERS`, a feature file.
        form: ``keras``, ``saved_model``, ``onnx``, ``litert`` or ``openvino``: a model from uint8 RGB pixels
            (N, size, size, 3), called ``pixels``, to float32 probabilities (N, classes), called ``probabilities``. See
            :mod:`heads.exporting.model_formats` for where its class names stand. ``npz``, ``parquet`` or ``h5ad``:
            features.
        out: file to write; by default it is called after the source, and lies in the working directory.
        weights: see :class:`heads.prediction.predictor.Predictor`.
        check: folder of images to compare the model on; by default, parts of two photographs of scikit-learn's.

    Returns:
        Plain JSON types: ``path``, ``format``, ``bytes``; of a model also ``images`` compared, and ``difference``, the
        largest of a probability.

    Raises:
        ExportError: the head or its backbones cannot be one model, or not in this format; or the file gives other
            probabilities, and is deleted.
        MissingDependencyError: the format's libraries are not installed.
        FeatureStoreError: see :class:`heads.prediction.predictor.Predictor` and
        :func:`heads.feature_table.load_features`.
    """
    if form in features.WRITERS:
        return features.export_features(source, form, out)
    if form not in model_formats.FORMATS:
        raise ExportError(f"unknown format {form!r}: {suggest(form, (*model_formats.FORMATS, *features.WRITERS))}")
    chosen = model_formats.usable(form)
    path = _target(source, out, form, chosen.suffix)
    head = load_head(source)
    nets = _nets(head)
    networks = load_networks(head, weights)
    whole = _joined(head, nets, networks)
    pixels = _pixels(check, next(iter(networks)))
    expected = probabilities(head, {spec: _features(spec, network, pixels) for spec, network in networks.items()})
    with replacing_files(path) as draft:
        found = _through(chosen, whole, draft, _info(head), pixels)
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{path}: its probabilities differ from the head's by {difference:.3g} on {len(pixels)} images, more "
                f"than {TOLERANCE:g}: the file is deleted; {_way_out(networks)}"
            )
        size = sum(file.stat().st_size for file in draft.parent.rglob("*") if file.is_file())
    return {"path": str(path), "format": form, "bytes": size, "images": len(pixels), "difference": difference}


def _through(
    chosen: model_formats.Format, whole: Backbone, draft: Path, info: model_formats.Info, pixels: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Write a file, and give what it makes of these pixels."""
    try:
        with without_stderr():
            chosen.save(whole, draft, info)
            return chosen.load(draft)(pixels)
    except Exception as error:  # converters fail in whatever way their libraries do
        reason = one_line(error) or type(error).__name__
        raise ExportError(f"{draft.name} cannot be made ({reason}): export to another --format") from error


def _target(source: str | os.PathLike[str], out: str | os.PathLike[str] | None, form: str, suffix: str) -> Path:
    """Where the file goes; nothing but a file or model that was written before is replaced."""
    path = Path(out) if out else Path(f"{Path(source).resolve().name}{suffix or '-' + form}")
    if suffix and path.suffix != suffix:
        raise ExportError(f"{path}: call it *{suffix}, as {form} does")
    if path.is_dir() and (suffix or not (path / "saved_model.pb").is_file()):
        raise ExportError(f"{path}: is a folder of other things: choose another --out")
    return path


def _nets(head: FittedHead) -> list[Layers]:
    """The head as nets from features to scores of all classes, divided by the temperature; several of an ensemble.

    Raises:
        ExportError: a head of this kind is no net.
    """
    nets = []
    for part in getattr(head.head, "heads_", [head.head]):
        layers = part.as_layers()
        if layers is None:
            raise ExportError(
                f"{head.path}: {text.design(head.to_dict())} cannot be written as a network: "
                f"fit one of {', '.join(kinds_of_layers())}"
            )
        nets.append(_of_all_classes(layers, head, np.float32(part.temperature_)))
    return nets


def _of_all_classes(layers: Layers, head: FittedHead, temperature: np.float32) -> Layers:
    """The net with a score for each class, also for those that it was not shown."""
    *inner, (weights, bias) = layers
    classes = head.head.classes_
    last = np.zeros((len(weights), len(head.class_names)), np.float32)
    scores = np.full(len(head.class_names), _ABSENT, np.float32)
    last[:, classes], scores[classes] = weights / temperature, bias / temperature
    return [*inner, (last, scores)]


def _joined(head: FittedHead, nets: Sequence[Layers], networks: Mapping[ExtractionSpec, Backbone]) -> Backbone:
    """Backbones and head as one network whose only tap is ``probabilities``.

    Raises:
        ExportError: the backbones want different pixels of one image.
    """
    rules = {(spec.size, spec.resize, spec.decoder) for spec in networks}
    if len(rules) > 1:
        sizes = ", ".join(sorted(f"{size} px ({resize}, {decoder})" for size, resize, decoder in rules))
        raise ExportError(f"{head.path}: its backbones take different pixels ({sizes}): extract all with one --size")
    keras = import_keras("exporting a model")
    first = next(iter(networks.values()))
    pixels = keras.Input((first.size, first.size, 3), dtype="uint8", name=model_formats.PIXELS)
    features = {
        # Two cuts of one network have the same name.
        spec: keras.Model(network.model.input, network.model.output, name=f"backbone_{i}")(pixels)
        for i, (spec, network) in enumerate(networks.items())
    }
    parts = [keras.layers.Flatten()(features[wanted.spec][wanted.tap]) for wanted in head.inputs]
    values = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    single = len(nets) == 1
    found = [
        _stacked(values, net, model_formats.PROBABILITIES if single else f"member_{i}") for i, net in enumerate(nets)
    ]
    values = found[0] if single else _mean(found, head.head.temperature_)
    return replace(
        first,
        model=keras.Model(pixels, {model_formats.PROBABILITIES: values}),
        taps=(Tap(model_formats.PROBABILITIES, "none"),),
        shapes={model_formats.PROBABILITIES: values.shape[1:]},
        precision="float32",
    )


def _stacked(values: Any, net: Layers, name: str) -> Any:
    """A net on features, to probabilities."""
    import keras

    for i, (weights, bias) in enumerate(net, 1):
        last = i == len(net)
        called = name if last else f"head_{i}" if name == model_formats.PROBABILITIES else f"{name}_{i}"
        dense = keras.layers.Dense(len(bias), "softmax" if last else "relu", name=called)
        values = dense(values)
        dense.set_weights([weights, bias])
    return values


def _mean(probabilities: Sequence[Any], temperature: float) -> Any:
    """The mean of probabilities, with a temperature: see :class:`heads.kinds.ensemble.EnsembleHead`."""
    import keras

    mean = keras.layers.Average()(probabilities)
    powers = keras.ops.power(mean, 1 / temperature)
    return keras.ops.divide(powers, keras.ops.sum(powers, axis=-1, keepdims=True))


def _features(spec: ExtractionSpec, network: Backbone, pixels: NDArray[np.uint8]) -> Mapping[str, Features]:
    """As a feature file would hold them."""
    return {tap: values.astype(spec.dtype) for tap, values in compile_backbone(network)(pixels)().items()}


def _pixels(folder: str | os.PathLike[str] | None, spec: ExtractionSpec) -> NDArray[np.uint8]:
    """Real images as the backbone takes them: of a folder, evenly chosen, or photographs that are installed here."""
    if folder is None:
        from sklearn.datasets import load_sample_images

        photographs = load_sample_images().images  # 427 × 640
        corners = [(top, left) for top in (0, 107, 213) for left in range(0, 480, 107)]
        parts = [image[top : top + 214, left : left + 160] for image in photographs for top, left in corners]
        return np.stack([decode(part, spec.size, spec.resize) for part in parts])
    count, paths = find_images([folder])
    found = []
    for i, path in enumerate(paths):
        if i % -(-count // CHECKED) == 0:
            with suppress(ImageError):
                found.append(decode_sizes(read_file(path), [spec.size], spec.resize, spec.decoder)[spec.size])
    if not found:
        raise SourceError(f"{folder}: no image there can be read: give --check another folder")
    return np.stack(found)


def _info(head: FittedHead) -> dict[str, Any]:
    """What the user of the file has to know."""
    spec = head.inputs[0].spec
    return {
        "class_names": list(head.class_names),
        "size": spec.size,
        "resize": spec.resize,
        "channels": "RGB",
        "head": head.design.kind,
        "dataset": head.dataset,
        "fingerprints": [item.fingerprint for item in head.inputs],
    }


def _way_out(networks: Mapping[ExtractionSpec, Backbone]) -> str:
    if any((spec.precision, spec.dtype) != ("float32", "float32") for spec in networks):
        return "the features were computed or stored in less than float32: extract and fit in float32"
    return "export to another --format"
