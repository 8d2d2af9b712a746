"""ONNX Runtime on the CPU, for networks that have an ONNX form. It runs each image in a thread of its own."""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork
from featurestore.backbones.base import Outputs
from featurestore.backbones.onnx_file import open_session
from featurestore.engines.base import Compute, one_by_one
from featurestore.errors import BackboneError, missing
from featurestore.system.machine import cores


def why_not(network: FrozenNetwork) -> Exception | None:
    """Return the error that ONNX Runtime is not installed, or that the network has no ONNX form, if so."""
    if find_spec("onnxruntime") is None:
        return missing("--engine onnxruntime", "ONNX Runtime", "onnx")
    if network.precision != "float32":
        return BackboneError(f"--engine onnxruntime does not compute in {network.precision}: pass another --engine")
    if network.onnx_model() is None:
        return BackboneError(f"{network.name} is no network of an ONNX file: pass another --engine, or none")
    return None


def adapted(network: FrozenNetwork) -> FrozenNetwork:
    """Return the network as it is."""
    return network


def compile_backbone(network: FrozenNetwork) -> Compute:
    """Return the network's ONNX model, optimised for single images that run beside each other."""
    model, names = network.onnx_model(), list(network.shapes)
    assert model is not None
    session = open_session(network.name, model)

    def infer(pixels: NDArray[np.uint8]) -> Outputs:
        return dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))

    return one_by_one(infer, cores())
