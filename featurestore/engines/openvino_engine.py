"""OpenVINO: often the fastest way on a CPU. Every image is a batch of its own there, which keeps it in the caches."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import Backbone
from featurestore.engines.base import Compute, Features
from featurestore.engines.keras_engine import graph
from featurestore.errors import BackboneError, missing

_PRECISIONS = {"float32": ("FP32", "f32"), "bfloat16": ("BF16", "bf16"), "float16": ("FP16", "f16")}


def why_not(precision: str) -> Exception | None:
    """What stands against using it here: it is not installed, Keras runs on another backend, or the CPU is too old."""
    import keras

    if find_spec("openvino") is None:
        return missing("--engine openvino", "OpenVINO", "openvino")
    if keras.backend.backend() != "tensorflow":
        return BackboneError(
            f"--engine openvino needs Keras on TensorFlow, not {keras.backend.backend()}: unset KERAS_BACKEND"
        )
    import openvino

    name, _ = _PRECISIONS[precision]
    if name not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return BackboneError(f"this CPU does not compute in {precision}: pass --engine keras, or --precision float32")
    return None


def compile_backbone(backbone: Backbone) -> Compute:
    """The network converted from TensorFlow's graph.

    Raises:
        MissingDependencyError, BackboneError: see :func:`why_not`.
    """
    if error := why_not(backbone.precision):
        raise error
    import openvino

    model = openvino.convert_model(graph(replace(backbone, precision="float32")))
    model.reshape([1, backbone.size, backbone.size, 3])
    options = {
        # Without it, recent CPUs compute in bfloat16 unasked, which is off by several percent.
        "INFERENCE_PRECISION_HINT": _PRECISIONS[backbone.precision][1],
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    ports = {tap: compiled.output(tap) for tap in backbone.shapes}
    streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(streams):
        idle.put(compiled.create_infer_request())
    pool = ThreadPoolExecutor(streams, "openvino")

    def infer(pixels: NDArray[np.uint8]) -> dict[str, Any]:
        request = idle.get()
        try:
            found = request.infer([pixels], share_inputs=True)
            return {tap: found[port].copy() for tap, port in ports.items()}
        finally:
            idle.put(request)

    def start(pixels: NDArray[np.uint8]) -> Callable[[], Features]:
        running = [pool.submit(infer, pixels[i : i + 1]) for i in range(len(pixels))]

        def finish() -> Features:
            rows = [future.result() for future in running]
            return {tap: np.concatenate([row[tap] for row in rows]) for tap in ports}

        return finish

    return start
