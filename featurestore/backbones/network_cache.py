"""What earlier runs know of networks: a run with nothing to compute builds none, and OpenVINO runs those of old.

An entry is used only while everything that its network depends on is unchanged: the files that may give the weights,
compared by their stamps; the libraries, by their versions; our own code; the processor; and Keras' configuration. Its
name is the SHA-256 of all that. Entries lie in a folder of the user's that nobody else can write to, since a network
from there is run: two files for each,

    NAME.json         what the network is, the engine that computes it, and the SHA-256 of
    NAME.safetensors  its OpenVINO model, and what its own layers gave for two pictures

The environment variable ``FEATURESTORE_NETWORK_CACHE`` names another folder; ``off`` means none.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from featurestore.backbones.base import FrozenNetwork, Outline, Request
from featurestore.backbones.keras_network import keras_home
from featurestore.backbones.portable import PortableNetwork
from featurestore.backbones.registry import files_of, framed, is_outside, load
from featurestore.errors import WriteError
from featurestore.system import documents
from featurestore.system.files import read_regular, write_whole
from featurestore.system.keras import configuration
from featurestore.system.machine import processor, version_of
from featurestore.system.stamps import horizon, settled, stamp
from featurestore.system.tensors import Layout, open_tensors
from featurestore.system.user_cache import cache_folder, private, shrink

FOLDER = "FEATURESTORE_NETWORK_CACHE"
LIMIT = 2 * 2**30
"""Bytes that all entries may take; those that were used longest ago go first."""

_LARGEST = LIMIT // 4
_LIBRARIES = (
    "featurestore", "keras", "keras_hub", "tensorflow", "jax", "torch", "numpy", "h5py", "openvino", "onnx",
    "onnxruntime",
)  # fmt: skip
_VARIABLES = ("KERAS_", "JAX_", "CUDA_", "TF_ENABLE_")
"""Environment variables whose names begin so can change random weights, at least."""

_XML, _NUMBERS, _EXPECTED = "xml", "numbers", "expected."


@dataclass(frozen=True)
class _Entry(Outline):
    engine: str | None = None
    libraries: tuple[str, ...] = ()
    digest: str | None = None


_built: dict[tuple[str, str], Outline] = {}
"""What this process has built, by name and Keras' configuration, which code of this process may change."""


class NetworkCache:
    """The entries of a run's networks.

    Files of others are believed until this process imports Keras, which may then be configured by code; from then on,
    what was built in this process under the same configuration.

    Args:
        requests: all networks of the run.
        trust: whether to use what is there.
    """

    def __init__(self, requests: Sequence[Request], *, trust: bool = True) -> None:
        self._folder, self._before = _folder(), horizon()
        # They are read now, because importing a backend sets some.
        self._variables = _variables()
        self._closed = "keras" in sys.modules
        self._names = {request: self._name(request) for request in requests}
        self._entries: dict[Request, _Entry] = {}
        for request, name in self._names.items() if trust else ():
            if name and (entry := self._recalled(name)):
                self._entries[request] = entry

    def recall(self, request: Request) -> Outline | None:
        """Return what the network is, or None if that is not certain."""
        entry = self._entries.get(request)
        return Outline(**entry.facts()) if entry else None

    def engine(self, request: Request) -> str | None:
        """Return the engine that the network is to be computed by, if that was found out."""
        entry = self._entries.get(request)
        return entry.engine if entry else None

    def network(self, request: Request, alike: FrozenNetwork | None = None) -> FrozenNetwork:
        """Return the network ready for its engine, or build it.

        Args:
            request: how it is built.
            alike: the same network for another framing of images, if that is there already.

        Raises:
            FeatureStoreError: see :func:`featurestore.backbones.load`.
        """
        entry = self._entries.get(request)
        if alike is not None:
            network = framed(alike, request)
            if entry is None:
                self._write(request, network, None)
            return network
        if entry and entry.digest and (found := self._portable(request, entry)):
            return found
        self._entries.pop(request, None)
        network = load(request)
        self._write(request, network, None)
        return network

    def keep(self, request: Request, network: FrozenNetwork, engine: str) -> None:
        """Write down by which engine a network is computed, in a form which that engine can begin with."""
        before = self._entries.get(request)
        if not (before and before.engine == engine):
            self._write(request, network, engine)

    def _recalled(self, name: str) -> _Entry | None:
        if self._closed:
            found = _built.get((name, configuration() or ""))
            return _Entry(**found.facts()) if found else None
        if self._folder:
            with suppress(OSError, ValueError):  # there is none, or it is damaged, or describes no possible network
                path = self._folder / f"{name}.json"
                entry = documents.read(path, _Entry)
                entry.spec()
                os.utime(path)
                return entry
        return None

    def _portable(self, request: Request, entry: _Entry) -> PortableNetwork | None:
        assert self._folder
        path = self._folder / f"{self._names[request]}.safetensors"
        layout: Layout = {_XML: (np.uint8, (None,)), _NUMBERS: (np.uint8, (None,))} | {
            f"{_EXPECTED}{tap}": (np.float32, (None, *shape)) for tap, shape in entry.shapes.items()
        }
        try:
            if hashlib.sha256(read_regular(path, _LARGEST)).hexdigest() != entry.digest:
                return None
            with open_tensors(path) as tensors:
                found = tensors.read(layout)
            os.utime(path)
        except (OSError, ValueError):
            return None
        expected = {tap: found[f"{_EXPECTED}{tap}"] for tap in entry.shapes}
        return PortableNetwork(
            **entry.facts(),
            xml=found[_XML].tobytes(),
            numbers=found[_NUMBERS],
            expected=expected,
            made_by=entry.libraries,
            build=partial(load, request),
        )

    def _write(self, request: Request, network: FrozenNetwork, engine: str | None) -> None:
        if (setting := configuration()) and (now := self._name(request, _variables())):
            _built[now, setting] = Outline(**network.facts())
        name = self._names[request]
        if self._closed or not self._folder or not name:
            return
        with suppress(WriteError, OSError):  # without it the next run is only slower
            digest = None
            if isinstance(network, PortableNetwork):
                digest = _save(network, self._folder / f"{name}.safetensors")
            entry = _Entry(**network.facts(), engine=engine, libraries=network.libraries(), digest=digest)
            write_whole(self._folder / f"{name}.json", json.dumps(asdict(entry), indent=1).encode())
            shrink(self._folder, LIMIT)

    def _name(self, request: Request, variables: dict[str, str] | None = None) -> str | None:
        """SHA-256 over all that the network depends on; None while a file is too new for its stamp to be trusted."""
        files = _files(request)
        stamps = [stamp(path) for path in files]
        if not all(settled(found, self._before) for found in stamps):
            return None
        facts = [
            request.text,
            [f"{path} {found.hex()}" for path, found in zip(files, stamps, strict=True)],
            {library: version_of(library) for library in _LIBRARIES},
            self._variables if variables is None else variables,
            [processor(), platform.python_version()],
            _text(keras_home() / "keras.json"),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _save(network: PortableNetwork, path: Path) -> str | None:
    """Write a network's model, and return the file's digest; None if it is too large, or could not be checked."""
    from safetensors.numpy import save

    size = len(network.xml) + network.numbers.nbytes + sum(values.nbytes for values in network.expected.values())
    if size > _LARGEST or network.sample() is None:
        return None
    xml = np.frombuffer(network.xml, np.uint8)
    expected = {f"{_EXPECTED}{tap}": values for tap, values in network.expected.items()}
    raw = save({_XML: xml, _NUMBERS: network.numbers, **expected})
    write_whole(path, raw)
    return hashlib.sha256(raw).hexdigest()


def _folder() -> Path | None:
    named = os.environ.get(FOLDER)
    if named == "off":
        return None
    with suppress(RuntimeError):  # nobody's home is known
        return private(Path(named) if named else cache_folder() / "networks")
    return None


def _variables() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}


def _files(request: Request) -> list[Path]:
    """List every file that the network depends on: those that may give the weights, and the code that builds it."""
    rooms = Path(__file__).parent, Path(__file__).parents[1] / "engines"
    files = sorted(path for room in rooms for path in room.glob("*.py"))
    if request.weights == "imagenet" or is_outside(request.name):
        files += files_of(request.name)
    if request.weights not in ("imagenet", "random"):
        files.append(Path(request.weights))
    return files


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""
