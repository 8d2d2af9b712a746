"""The file that holds the arrays of a saved head: safetensors, or skops if a scikit-learn estimator is among them."""

from pathlib import Path

import numpy as np

from featurestore.system.machine import memory_limit
from featurestore.system.tensors import open_tensors
from heads.kinds.base import MODEL, WEIGHTS, Head, State
from heads.storage.archives import read_model


def pack_state(head: Head) -> bytes:
    """Return the bytes of the file :attr:`heads.kinds.base.Head.weights_file` of a fitted head."""
    if head.weights_file == WEIGHTS:
        from safetensors.numpy import save

        return save(head.state())
    import skops.io

    return bytes(skops.io.dumps(head.state()))


def read_state(path: Path, head: Head) -> State:
    """Read what :func:`pack_state` returned; the head tells the names, shapes and types that the file may hold.

    Raises:
        ValueError: the file holds something else, or more than half of the machine's memory.
        Exception: the file is damaged, for which skops and zipfile raise errors of many kinds.
    """
    limit = memory_limit()
    if path.name == MODEL:
        return read_model(path, limit, head.trusted_types)
    with open_tensors(path) as file:
        return file.read({name: (np.float32, shape) for name, shape in head.shapes().items()}, limit)
