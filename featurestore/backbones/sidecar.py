"""The file ``NAME.json`` beside ``NAME.onnx``: what a network wants its pixels to be, which ONNX files do not tell.

This is its specification. It is a JSON object with any of these keys; what is left out has the default. Keys that are
not known are passed over.

    {
      "size": 224,                      side of the square of pixels; the file's own, where it states one
      "resize": "shortest",             how an image becomes a square: as in featurestore.spec.Framing ("squash")
      "interpolation": "bicubic",       bilinear, bicubic or lanczos ("bilinear")
      "crop_share": 0.875,              for "shortest" and "shortest-floor", see there (1)
      "mean": [123.675, 116.28, 103.53],   the network gets (pixels - mean) / std, where pixels are 0 to 255, and
      "std": [58.395, 57.12, 57.375],      mean and std are those of red, green and blue
      "preprocessing": "torch",         in place of both: the name of one, see featurestore.backbones.preprocessing
      "channels": "BGR",                the order in which the network takes the channels: RGB or BGR ("RGB")
      "layout": "NCHW",                 NCHW or NHWC, where the shape of the input leaves it open
      "tokens": {"cls": true, "registers": 4},   how its sequences of tokens begin, where it has some
      "output": "last_hidden_state",    which of several outputs is the tap `last`
      "name": "dinov2_small",           of the network; the stem of the file's name by default
      "licence": "apache-2.0",          of the weights
      "revision": "1.0",                of the weights, as the place names it from which they come
      "origin": "timm:vit_small_patch14_dinov2"   that place
    }
"""

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from featurestore.backbones.preprocessing import PREPROCESSINGS, Preprocessing
from featurestore.backbones.taps import Tokens
from featurestore.errors import BackboneError
from featurestore.spec import LARGEST_SIZE, Interpolation, Resize
from featurestore.system import documents
from featurestore.system.files import why, write_whole

Channels = Literal["RGB", "BGR"]
Layout = Literal["NCHW", "NHWC"]
Numbers = tuple[float, float, float]

_MOST_REGISTERS, _LONGEST = 4096, 255


@dataclass(frozen=True)
class Sidecar:
    """What stands in the file; see the module for each field. What is None is not stated.

    Raises:
        ValueError: values that no network has; the text is a reason of one line.

    Example:
        >>> Sidecar(mean=(0, 0, 0), std=(255, 255, 255), channels="BGR").pixels
        'mean=0,0,0 std=255,255,255 channels=BGR'
    """

    size: int | None = None
    resize: Resize = "squash"
    interpolation: Interpolation = "bilinear"
    crop_share: float = 1.0
    mean: Numbers | None = None
    std: Numbers | None = None
    preprocessing: str | None = None
    channels: Channels = "RGB"
    layout: Layout | None = None
    tokens: Tokens | None = None
    output: str | None = None
    name: str | None = None
    licence: str = ""
    revision: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= LARGEST_SIZE:
            raise ValueError(f"size {self.size}: it is 1 to {LARGEST_SIZE:,} pixels")
        if not 0 < self.crop_share <= 1:
            raise ValueError(f"crop_share {self.crop_share}: it is 0 to 1")
        if self.tokens and not 0 <= self.tokens.registers <= _MOST_REGISTERS:
            raise ValueError(f"registers {self.tokens.registers}: there are 0 to {_MOST_REGISTERS:,}")
        if (self.mean is None) != (self.std is None) or (self.mean and self.preprocessing):
            raise ValueError("it takes mean and std, or a preprocessing")
        # Lists of backbones are separated by plus signs, and options by colons.
        if self.name is not None and not re.fullmatch(r"[\w.:@=,-]{1,100}", self.name):
            raise ValueError(f"name {self.name[:_LONGEST]!r}: it is made of letters, digits and .:@=,-_")
        if any(len(text) > _LONGEST or not text.isprintable() for text in (self.licence, self.revision, self.origin)):
            raise ValueError(f"licence, revision and origin are texts of at most {_LONGEST} printable characters")
        try:
            self.pixels  # noqa: B018 (it is looked at)
        except BackboneError as error:
            raise ValueError(str(error)) from error

    @property
    def pixels(self) -> str | None:
        """The name of the :class:`~featurestore.backbones.preprocessing.Preprocessing`; None if none is stated."""
        if self.preprocessing:
            found = Preprocessing.of(self.preprocessing)
            if found.bgr or self.channels == "RGB":
                return found.name
            return Preprocessing(found.mean[::-1], found.std[::-1], bgr=True).name
        if self.mean is None or self.std is None:
            return None
        bgr = self.channels == "BGR"
        mean, std = (numbers[::-1] if bgr else numbers for numbers in (self.mean, self.std))
        return Preprocessing.of(Preprocessing(mean, std, bgr).name).name

    @classmethod
    def stating(cls, preprocessing: Preprocessing, **facts: object) -> "Sidecar":
        """Return a sidecar that states `preprocessing`, and other fields by name."""
        if preprocessing in PREPROCESSINGS.values():
            return cls(preprocessing=preprocessing.name, **facts)  # type: ignore[arg-type]
        bgr = preprocessing.bgr
        mean, std = (numbers[::-1] if bgr else numbers for numbers in (preprocessing.mean, preprocessing.std))
        return cls(mean=mean, std=std, channels="BGR" if bgr else "RGB", **facts)  # type: ignore[arg-type]


def path_of(file: str | Path) -> Path:
    """Return the path of the sidecar of a file.

    Example:
        >>> path_of("networks/mine.onnx").name
        'mine.json'
    """
    return Path(file).with_suffix(".json")


def read_sidecar(file: str | Path) -> Sidecar | None:
    """Read the sidecar of a file, see :func:`path_of`; None if there is none.

    Raises:
        BackboneError: it cannot be read, or states what no network has.
    """
    path = path_of(file)
    try:
        return documents.read(path, Sidecar)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else error
        raise BackboneError(
            f"{path} does not state what {Path(file).name} wants its pixels to be ({reason}): correct it, or move it "
            "away and pass --preprocessing"
        ) from error


def write_sidecar(file: str | Path, contract: Sidecar) -> Path:
    """Write the sidecar of a file, see :func:`path_of`; what is at its default is left out.

    Raises:
        WriteError: it cannot be written.

    Example:
        >>> from featurestore.backbones.sidecar import Sidecar, read_sidecar, write_sidecar
        >>> write_sidecar("mine.onnx", Sidecar(size=224, preprocessing="torch")).name
        'mine.json'
        >>> read_sidecar("mine.onnx")
        Sidecar(size=224, ..., preprocessing='torch', ...)
    """
    path = path_of(file)
    stated = asdict(contract)
    plain = {f.name: stated[f.name] for f in fields(contract) if stated[f.name] != f.default}
    write_whole(path, (json.dumps(plain, indent=2) + "\n").encode())
    return path
