"""Formats of a model in a file: one function that writes each, and one that runs what was written.

What is known of the model (class names, how images become pixels) goes into the file as JSON, where the format has a
place for it: a member ``featurestore.json`` of the zip archive that a ``.keras`` file is, and of the one at the end of
a ``.tflite`` file (where TensorFlow Lite's tools look for associated files); ``assets.extra/featurestore.json`` of a
SavedModel; ``metadata_props`` of an ONNX model; ``rt_info/featurestore`` of an OpenVINO model.
"""

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import Backbone
from featurestore.engines.keras_engine import graph
from featurestore.errors import ExportError, missing
from featurestore.system.keras import import_keras

PIXELS, PROBABILITIES = "pixels", "probabilities"
"""Names of a model's input, uint8 (N, size, size, 3), RGB, and of its output, float32 (N, classes)."""
INFO = "featurestore.json"

Info = Mapping[str, Any]
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Format(NamedTuple):
    """How to write a :class:`Backbone` whose one output is PROBABILITIES, and how to run the file.

    Attributes:
        suffix: of the file; "" of a folder.
        libraries: that writing and running it takes, beside Keras.
        save: writes it, and its description.
        load: from the path to what runs a batch of pixels.
    """

    suffix: str
    libraries: tuple[str, ...]
    save: Callable[[Backbone, Path, Info], None]
    load: Callable[[Path], Run]


def usable(name: str) -> Format:
    """The format of this name, a key of :data:`FORMATS`.

    Raises:
        ExportError: it needs Keras on TensorFlow.
        MissingDependencyError: its libraries are not installed.
    """
    for library in FORMATS[name].libraries:
        if find_spec(library) is None:
            raise missing(f"--format {name}", library, "export")
    backend = import_keras(f"--format {name}").backend.backend()
    if FORMATS[name].libraries and backend != "tensorflow":
        raise ExportError(f"--format {name} needs Keras on TensorFlow, not {backend}: unset KERAS_BACKEND")
    return FORMATS[name]


def _attach(path: Path, info: Info) -> None:
    with zipfile.ZipFile(path, "a") as archive:  # what is no archive gets one at its end
        archive.writestr(INFO, json.dumps(info, indent=1))


def _save_keras(whole: Backbone, path: Path, info: Info) -> None:
    import keras

    keras.Model(whole.model.input, whole.model.output[PROBABILITIES], name="classifier").save(path)
    _attach(path, info)


def _load_keras(path: Path) -> Run:
    import keras

    model = keras.saving.load_model(path, compile=False)
    return lambda pixels: np.asarray(keras.ops.convert_to_numpy(model(pixels, training=False)))


def _save_tensorflow(whole: Backbone, path: Path, info: Info) -> None:
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(path), signatures=graph(whole))
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / INFO).write_text(json.dumps(info, indent=1))


def _load_tensorflow(path: Path) -> Run:
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    return lambda pixels: np.asarray(module.signatures["serving_default"](pixels=tf.constant(pixels))[PROBABILITIES])


def _save_onnx(whole: Backbone, path: Path, info: Info) -> None:
    import onnx
    import tf2onnx

    function = graph(whole)
    names = {function.inputs[0].name: PIXELS, function.outputs[0].name: PROBABILITIES}
    model, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(add_shapes=True),
        input_names=[function.inputs[0].name],
        output_names=[function.outputs[0].name],
        tensors_to_rename=names,
    )
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in info.items()})
    onnx.save(model, path)


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: np.asarray(session.run([PROBABILITIES], {PIXELS: pixels})[0])


def _save_litert(whole: Backbone, path: Path, info: Info) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # only from there are the names of tensors kept
        _save_tensorflow(whole, Path(folder) / "model", info)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(f"{folder}/model").convert())
    _attach(path, info)


def _load_litert(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path)).get_signature_runner()
    return lambda pixels: np.concatenate([run(pixels=image[None])[PROBABILITIES] for image in pixels])


def _save_openvino(whole: Backbone, path: Path, info: Info) -> None:
    import openvino

    model = openvino.convert_model(graph(whole))
    for key, value in info.items():
        model.set_rt_info(_text(value), ["featurestore", key])
    openvino.save_model(model, path, compress_to_fp16=False)


def _load_openvino(path: Path) -> Run:
    import openvino

    # Without it, recent CPUs compute in bfloat16 unasked, which is off by several percent.
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: np.asarray(compiled(pixels)[PROBABILITIES])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


FORMATS = {
    "keras": Format(".keras", (), _save_keras, _load_keras),
    "saved_model": Format("", ("tensorflow",), _save_tensorflow, _load_tensorflow),
    "onnx": Format(".onnx", ("tensorflow", "tf2onnx", "onnxruntime"), _save_onnx, _load_onnx),
    "litert": Format(".tflite", ("tensorflow", "ai_edge_litert"), _save_litert, _load_litert),
    "openvino": Format(".xml", ("tensorflow", "openvino"), _save_openvino, _load_openvino),
}
