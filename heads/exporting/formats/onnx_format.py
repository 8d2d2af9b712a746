"""An ONNX file. The information stands in the model's ``metadata_props``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.engines.keras_engine import graph
from heads.exporting.formats.base import PIXELS, PROBABILITIES, Classify, Format, Info, as_text, in_turn

if TYPE_CHECKING:
    import keras


def save(model: "keras.Model", path: Path, info: Info) -> None:
    """Write TensorFlow's graph of the model, converted by tf2onnx."""
    import tf2onnx

    function = graph(model)
    names = {function.inputs[0].name: PIXELS, function.outputs[0].name: PROBABILITIES}
    converted, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(add_shapes=True),
        input_names=[function.inputs[0].name],
        output_names=[function.outputs[0].name],
        tensors_to_rename=names,
    )
    save_onnx(converted, path, info)


def save_onnx(model: Any, path: Path, info: Info) -> None:
    """Write the model, an ``onnx.ModelProto``."""
    import onnx

    onnx.helper.set_model_props(model, {key: as_text(value) for key, value in info.items()})
    onnx.save(model, path)


def load(path: Path) -> Classify:
    """Run it by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    alone = session.get_inputs()[0].shape[0] == 1
    return in_turn(lambda pixels: np.asarray(session.run([PROBABILITIES], {PIXELS: pixels})[0]), alone)


FORMAT = Format(
    "onnx", ".onnx", ("tensorflow", "tf2onnx", "onnxruntime"), save, load, save_onnx, ("onnx", "onnxruntime")
)
