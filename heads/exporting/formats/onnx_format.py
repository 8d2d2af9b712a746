"""An ONNX file. The information stands in the model's ``metadata_props``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.engines.keras_engine import graph
from heads.exporting.formats.base import Classify, Format, Info, as_text, by_name, in_turn

if TYPE_CHECKING:
    import keras


def save(model: "keras.Model", path: Path, info: Info) -> None:
    """Write TensorFlow's graph of the model, converted by tf2onnx."""
    import tf2onnx

    function = graph(model)
    inputs = function.inputs[: len(model.inputs)]  # behind them are the weights
    names = {tensor.name: tensor.op.name for tensor in inputs} | {function.outputs[0].name: next(iter(model.output))}
    converted, _ = tf2onnx.convert.from_graph_def(
        function.graph.as_graph_def(add_shapes=True),
        input_names=[tensor.name for tensor in inputs],
        output_names=[function.outputs[0].name],
        tensors_to_rename=names,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    save_onnx(converted, path, info)


def save_onnx(model: Any, path: Path, info: Info) -> None:
    """Write the model, an ``onnx.ModelProto``."""
    import onnx

    onnx.helper.set_model_props(model, {key: as_text(value) for key, value in info.items()})
    onnx.save(model, path)


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
    alone = session.get_inputs()[0].shape[0] == 1
    return in_turn(lambda *pixels: np.asarray(session.run(None, by_name(pixels))[0]), alone)


FORMAT = Format(
    "onnx", ".onnx", ("tensorflow", "tf2onnx", "onnxruntime"), save, load, save_onnx, ("onnx", "onnxruntime")
)
