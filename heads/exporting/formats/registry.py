"""The formats of models by name. To add one, write its module beside these, and add it here."""

from importlib.util import find_spec

from featurestore.errors import ExportError, missing
from featurestore.system.keras import import_keras
from heads.exporting.formats import keras_format, litert_format, onnx_format, openvino_format, saved_model_format
from heads.exporting.formats.base import Format

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (keras_format, saved_model_format, onnx_format, litert_format, openvino_format)
}


def usable(name: str, *, onnx: bool = False) -> Format:
    """The format of this name, a key of :data:`FORMATS`.

    Args:
        name: see above.
        onnx: whether it is to hold a network of an ONNX file.

    Raises:
        ExportError: it needs Keras on TensorFlow, or cannot hold such a network.
        MissingDependencyError: its libraries are not installed.
    """
    chosen = FORMATS[name]
    if onnx and chosen.save_onnx is None:
        able = " or ".join(each.name for each in FORMATS.values() if each.save_onnx)
        raise ExportError(f"--format {name} cannot hold a backbone of an ONNX file: pass --format {able}")
    for library in chosen.onnx_libraries if onnx else chosen.libraries:
        if find_spec(library) is None:
            raise missing(f"--format {name}", library, "export")
    if onnx:
        return chosen
    backend = import_keras(f"--format {name}").backend.backend()
    if chosen.libraries and backend != "tensorflow":
        raise ExportError(f"--format {name} needs Keras on TensorFlow, not {backend}: unset KERAS_BACKEND")
    return chosen
