"""OpenVINO is often the fastest engine on a CPU. It runs each image as a batch of its own, which fits the caches."""

from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork
from featurestore.backbones.base import Outputs
from featurestore.backbones.portable import portable
from featurestore.engines.base import Compute, one_by_one
from featurestore.engines.keras_engine import graph
from featurestore.errors import BackboneError, missing

_PRECISIONS = {"float32": ("FP32", "f32"), "bfloat16": ("BF16", "bf16"), "float16": ("FP16", "f16")}


def why_not(network: FrozenNetwork) -> Exception | None:
    """Return the error that OpenVINO is not installed, reads no form of the network, or that the CPU is too old."""
    if find_spec("openvino") is None:
        return missing("--engine openvino", "OpenVINO", "openvino")
    if network.openvino_model() is None:
        if network.keras_model() is None:
            return BackboneError(f"{network.name} has no form that OpenVINO reads: pass another --engine, or none")
        import keras

        if keras.backend.backend() != "tensorflow":
            return BackboneError(
                f"--engine openvino needs Keras on TensorFlow, not {keras.backend.backend()}: unset KERAS_BACKEND"
            )
    import openvino

    name, _ = _PRECISIONS[network.precision]
    if name not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return BackboneError(
            f"this CPU does not compute in {network.precision}: pass --engine keras, or --precision float32"
        )
    return None


def adapted(network: FrozenNetwork) -> FrozenNetwork:
    """Return the network with an OpenVINO model, which is converted from TensorFlow's graph where it has none."""
    if network.openvino_model() is not None:
        return network
    import openvino

    traced = graph(network.keras_model())
    with TemporaryDirectory() as folder:
        model = _converted(traced, Path(folder) / "graph.pb")
        model.reshape([1, network.size, network.size, 3])
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return portable(network, path.read_bytes(), np.fromfile(path.with_suffix(".bin"), np.uint8))


def _converted(traced: Any, path: Path) -> Any:
    """Convert a graph of TensorFlow's by way of a file: OpenVINO then reads it five times as fast as from Python."""
    import openvino

    try:
        path.write_bytes(traced.graph.as_graph_def().SerializeToString())
    except ValueError:  # more than the 2 GB that such a file can hold
        return openvino.convert_model(traced)
    model = openvino.Core().read_model(path)
    results = []
    for tap, tensor in traced.structured_outputs.items():
        port = model.output(tensor.name)
        port.get_tensor().set_names({tap})
        results.append(port.get_node())
    # TensorFlow's graph has ends that nobody asked for, such as the inside of an activation.
    return openvino.Model(results, model.get_parameters())


def compile_backbone(network: FrozenNetwork) -> Compute:
    """The network's OpenVINO model, compiled for single images that run beside each other."""
    import openvino

    model = adapted(network).openvino_model()
    model.reshape([1, network.size, network.size, 3])
    options = {
        # Without it, recent CPUs compute in bfloat16 unasked, which is off by several percent.
        "INFERENCE_PRECISION_HINT": _PRECISIONS[network.precision][1],
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    ports = {tap: compiled.output(tap) for tap in network.shapes}
    streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(streams):
        idle.put(compiled.create_infer_request())

    def infer(pixels: NDArray[np.uint8]) -> Outputs:
        request = idle.get()
        try:
            found = request.infer([pixels], share_inputs=True)
            return {tap: found[port].copy() for tap, port in ports.items()}
        finally:
            idle.put(request)

    # Its Python module sets itself up in the first inference: one thread waits there for another with the interpreter's
    # lock in hand, which the other one needs. So the first is done here, before there are others.
    infer(np.zeros((1, network.size, network.size, 3), np.uint8))
    return one_by_one(infer, streams)
