"""The one import of Keras: it happens late and quietly, and says clearly what to install where Keras is missing."""

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from featurestore.errors import missing


def import_keras(task: str) -> Any:
    """The module ``keras`` on its backend: TensorFlow, unless ``KERAS_BACKEND`` names another.

    Args:
        task: what it is needed for, for the message.

    Raises:
        MissingDependencyError: Keras or its backend is not installed.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with same_random_state(), without_stderr():  # importing a backend draws random numbers
            import keras

            _share_gpus(keras.backend.backend())
    except ImportError as error:
        raise missing(task, "TensorFlow", "extract") from error
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it takes several networks in one process for a mistake
    return keras


def configuration() -> str | None:
    """What code of this process may have set in Keras, as text; None while Keras is not imported.

    Example:
        >>> configuration() == configuration()
        True
    """
    keras = sys.modules.get("keras")
    if keras is None:
        return None
    config = keras.config
    objects = sorted(f"{name} {id(item)}" for name, item in keras.saving.get_custom_objects().items())
    facts = config.backend(), config.floatx(), config.epsilon(), config.image_data_format(), config.dtype_policy().name
    return repr((*facts, objects))


def _share_gpus(backend: str) -> None:
    """TensorFlow takes what it needs of a GPU's memory, and not all of it at once."""
    if backend == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


@contextmanager
def same_random_state() -> Iterator[None]:
    """Leave the random numbers of Python and NumPy as they were, whatever the block draws or seeds."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def without_stderr() -> Iterator[None]:
    """Silence standard error: TensorFlow and LiteRT write to file descriptor 2, whatever the log level."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
