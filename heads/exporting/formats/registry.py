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
