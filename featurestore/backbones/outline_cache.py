"""A file that remembers what backbones are, so that a run with nothing to compute need not build them again.

An entry is used only while everything that its network depends on is unchanged: the files that may give the weights,
compared by their stamps; the libraries, by their versions; our own code that builds networks; and Keras' configuration.
Entries only serve to find out that nothing is missing. A network that runs is always built, and its own digest counts.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from featurestore.backbones.base import Outline, Request
from featurestore.backbones.keras_network import keras_home
from featurestore.backbones.registry import find, is_file
from featurestore.errors import WriteError
from featurestore.system import documents
from featurestore.system.files import write_whole
from featurestore.system.machine import version_of
from featurestore.system.stamps import horizon, settled, stamp

NAME = "backbones.memo"
_LIBRARIES = ("featurestore", "keras", "tensorflow", "jax", "torch", "numpy", "h5py")
_VARIABLES = ("KERAS_", "JAX_", "CUDA_")
"""Environment variables whose names begin so can change random weights, at least."""


@dataclass(frozen=True)
class _Entry(Outline):
    witness: str


class Memo:
    """The file of one store. It is used until this process imports Keras, which may then be configured by code.

    Args:
        folder: the store.
        requests: all networks of a run.
        trust: whether to use what it says.
    """

    def __init__(self, folder: Path, requests: Sequence[Request], *, trust: bool = True) -> None:
        self._path, self._before = folder / NAME, horizon()
        # They are read now, because importing a backend sets some.
        self._variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}
        self._closed = "keras" in sys.modules
        self._entries = _read(self._path)
        self._outlines: dict[Request, Outline] = {}
        for request in requests if trust and not self._closed else ():
            entry = self._entries.get(request.text)
            if entry and entry.witness == self._witness(request):
                with suppress(ValueError):  # the entry describes no possible network
                    entry.spec()
                    self._outlines[request] = Outline.from_dict(entry.to_dict())

    def recall(self, request: Request) -> Outline | None:
        """Return what the network is, or None if that is not certain."""
        return self._outlines.get(request)

    def remember(self, request: Request, backbone: Outline) -> None:
        """Write down a network that was just built."""
        if not self._closed and (witness := self._witness(request)):
            known = {f.name: getattr(backbone, f.name) for f in fields(Outline)}
            self._entries[request.text] = _Entry(**known, witness=witness)
            plain = {text: {"witness": entry.witness, **entry.to_dict()} for text, entry in self._entries.items()}
            with suppress(WriteError):  # without it the next run is only slower
                write_whole(self._path, json.dumps(plain, indent=1).encode())

    def _witness(self, request: Request) -> str | None:
        """SHA-256 over all that the network depends on; None while a file is too new for its stamp to be trusted."""
        files = _files(request)
        stamps = [stamp(path) for path in files]
        if not all(settled(found, self._before) for found in stamps):
            return None
        facts = [
            request.text,
            [f"{path} {found.hex()}" for path, found in zip(files, stamps, strict=True)],
            {library: version_of(library) for library in _LIBRARIES},
            self._variables,
            [platform.node(), platform.python_version()],
            _text(keras_home() / "keras.json"),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _files(request: Request) -> list[Path]:
    """List every file that the network depends on: those that may give the weights, and the code that builds it."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    if is_file(request.name):
        files.append(Path(request.name))
    elif request.weights == "imagenet":
        files += find(request.name).weight_files()
    if request.weights not in ("imagenet", "random"):
        files.append(Path(request.weights))
    return files


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def _read(path: Path) -> dict[str, _Entry]:
    with suppress(OSError, ValueError):
        return documents.read(path, dict[str, _Entry])
    return {}
