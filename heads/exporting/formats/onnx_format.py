"""An ONNX file. The information stands in the model's ``metadata_props``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.engines.keras_engine import graph
from heads.exporting.formats.base import PIXELS, PROBABILITIES, Classify, Format, Info, as_text

if TYPE_CHECKING:
    import keras


def save(model: "keras.Model", path: Path, info: Info) -> None:
    """Write TensorFlow's graph of the model, converted by tf2onnx."""
    import onnx
    import tf2onnx

    function = graph(model)
    names = {function.inputs[0].name: PIXELS, function.outputs[0].name: PROBABILITIES}
    converted, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(add_shapes=True),
        input_names=[function.inputs[0].name],
        output_names=[function.outputs[0].name],
        tensors_to_rename=names,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    onnx.helper.set_model_props(converted, {key: as_text(value) for key, value in info.items()})
    onnx.save(converted, path)


def _erfc(ctx: Any, node: Any, name: str, args: Any) -> None:
    """Write the Erfc of TensorFlow's GELU, which ONNX does not have, as 1 - Erf."""
    dtypes, shapes, source, target = node.output_dtypes, node.output_shapes, list(node.input), list(node.output)
    ctx.remove_node(node.name)
    one = ctx.make_const(f"{name}_one", np.ones((), np.float32))
    erf = ctx.make_node("Erf", source, dtypes=dtypes, shapes=shapes)
    ctx.make_node("Sub", [one.output[0], erf.output[0]], outputs=target, dtypes=dtypes, shapes=shapes)


def load(path: Path) -> Classify:
    """Run it by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: np.asarray(session.run([PROBABILITIES], {PIXELS: pixels})[0])


FORMAT = Format("onnx", ".onnx", ("tensorflow", "tf2onnx", "onnxruntime"), save, load)
