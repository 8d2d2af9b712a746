"""A model of OpenVINO, ``.xml`` and ``.bin``. The information stands in its ``rt_info/featurestore``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.engines.keras_engine import graph
from heads.exporting.formats.base import Classify, Format, Info, as_text, by_name, in_turn

if TYPE_CHECKING:
    import keras


def save(model: "keras.Model", path: Path, info: Info) -> None:
    """Write TensorFlow's graph of the model, converted, in float32."""
    import openvino

    converted = openvino.convert_model(graph(model))
    for port in converted.inputs:  # of several, they are called as TensorFlow's tensors
        port.get_tensor().set_names({name.partition(":")[0] for name in port.get_names()})
    _write(converted, path, info)


def save_onnx(model: Any, path: Path, info: Info) -> None:
    """Write an ``onnx.ModelProto``, converted, in float32."""
    import openvino

    _write(openvino.Core().read_model(model.SerializeToString()), path, info)


def _write(converted: Any, path: Path, info: Info) -> None:
    import openvino

    for key, value in info.items():
        converted.set_rt_info(as_text(value), ["featurestore", key])
    openvino.save_model(converted, path, compress_to_fp16=False)


def load(path: Path) -> Classify:
    """Run it by OpenVINO on the CPU."""
    import openvino

    # Without it, recent CPUs compute in bfloat16 unasked, which is off by several percent.
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batch = compiled.input(0).partial_shape[0]
    return in_turn(lambda *pixels: np.asarray(compiled(by_name(pixels))[0]), batch == openvino.Dimension(1))


FORMAT = Format(
    "openvino", ".xml", ("tensorflow", "openvino"), save, load, save_onnx, ("onnx", "onnxruntime", "openvino")
)
