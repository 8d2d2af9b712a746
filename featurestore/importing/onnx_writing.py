"""A network of PyTorch as an ONNX file: weights within, batches of any size."""

import logging
import warnings
from pathlib import Path

from featurestore.errors import ExportError, missing, one_line
from featurestore.importing.pretrained import Pretrained

INPUT = "pixels"
_LARGEST = 1.9e9
"""Bytes of weights from which on they stand in a file beside: one ONNX file holds less than 2 GiB."""
_EXAMPLES = 2
_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "torch._dynamo")


def write_onnx(pretrained: Pretrained, path: Path) -> None:
    """Write a network; its input is called :data:`INPUT`, its outputs as they are.

    Raises:
        ExportError: it cannot be expressed in ONNX, or only for one size of a batch.
        MissingDependencyError: a library is not installed.
    """
    import torch

    try:
        import onnxscript  # noqa: F401 (torch needs it)
    except ImportError as error:
        raise missing("writing ONNX files", "onnxscript", "torch") from error
    side = pretrained.contract.framing.size
    weights = sum(each.numel() * each.element_size() for each in pretrained.network.parameters())
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                pretrained.network,
                (torch.rand(_EXAMPLES, 3, side, side),),
                path,
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=list(pretrained.outputs),
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                external_data=weights > _LARGEST,
            )
    except Exception as error:  # exporters fail in whatever way they do
        raise ExportError(
            f"{pretrained.origin}: it cannot be written as ONNX ({one_line(error)}): take another network"
        ) from error
