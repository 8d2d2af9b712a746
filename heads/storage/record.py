"""Which images a head has seen, and how often it was measured: so that no figure is taken on rows it knows."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from featurestore.sources.splits import SPLITS
from featurestore.system.documents import LIMIT, parse
from featurestore.system.files import read_regular, why
from featurestore.system.tensors import open_tensors
from heads.documents import HeadDocument, MeasureDocument
from heads.metrics.shift import Reference

ROWS, MEASURED = "rows.safetensors", "measured.jsonl"
"""Files of a saved head: what :class:`Record` holds in arrays; a line per measure on test rows."""

FITTED, CHOSEN = "fitted", "chosen"
"""What a head may have done with a row: learned from it, or been preferred to other heads for its answer there."""

_BYTES = 16
"""Of each image's SHA-256: among a million images, two that begin alike are less likely than a bit that flips."""
_KEY = f"S{_BYTES}"
"""Such a beginning as one value: NumPy compares bytes of one length as they are."""
_BLOCK = 2**18
"""Images whose digests are looked through at a time."""
_LARGEST = 2**27
"""Bytes that the rows of a head may take: eight million images."""


@dataclass(frozen=True, eq=False)
class Record:
    """The splits of a head's data set, as they were when it was fitted, and which of them it has seen.

    Attributes:
        digests: split -> uint8 (n, 16), how the SHA-256 of each of its images begins.
        fitted: splits that the head was fitted on.
        chosen: splits that told when to stop, or that chose the head among others.
        reference: how the head scores training rows that were held out; None where none were.
    """

    digests: Mapping[str, NDArray[np.uint8]]
    fitted: tuple[str, ...]
    chosen: tuple[str, ...]
    reference: Reference | None = None

    @classmethod
    def of(cls, digests: NDArray[Any], splits: NDArray[Any], fitted: Iterable[str], chosen: Iterable[str]) -> "Record":
        """From the digests, in hexadecimal, and splits of all rows: str arrays (N,)."""
        found = {}
        for split in SPLITS:
            begins = [bytes.fromhex(digest[: 2 * _BYTES]) for digest in np.unique(digests[splits == split]).tolist()]
            found[split] = np.frombuffer(b"".join(begins), np.uint8).reshape(-1, _BYTES)
        return cls(found, tuple(fitted), tuple(chosen))

    def split_of(self, digests: Iterable[str]) -> NDArray[Any]:
        """The split that each image was in (N,), by its digest in hexadecimal; "" for images that were not there."""
        asked = np.array([bytes.fromhex(d[: 2 * _BYTES]) for d in digests], _KEY)
        found = np.full(len(asked), "", "U10")
        for split, rows in self.digests.items():
            for start in range(0, len(rows), _BLOCK):
                block = np.ascontiguousarray(rows[start : start + _BLOCK]).view(_KEY).ravel()
                found[np.isin(asked, block)] = split
        return found

    def seen(self, digests: Iterable[str]) -> NDArray[Any]:
        """What the head did with each image: :data:`FITTED`, :data:`CHOSEN` or ""."""
        splits = self.split_of(digests)
        chosen = np.where(np.isin(splits, self.chosen), CHOSEN, "")
        return np.where(np.isin(splits, self.fitted), FITTED, chosen)

    def to_dict(self) -> dict[str, Any]:
        """All but the digests, as plain JSON types."""
        return {"fitted_on": list(self.fitted), "chosen_by": list(self.chosen)}

    def packed(self) -> bytes:
        """The digests as a file."""
        from safetensors.numpy import save

        known = self.reference.to_arrays() if self.reference else {}
        return save({name: np.ascontiguousarray(array) for name, array in {**self.digests, **known}.items()})

    @classmethod
    def read(cls, path: Path, values: HeadDocument) -> "Record":
        """Inverse of :meth:`packed` and :meth:`to_dict`.

        Raises:
            ValueError, KeyError, OSError: not what they write.
        """
        digests = dict.fromkeys(SPLITS, (np.uint8, (None, _BYTES)))
        with open_tensors(path) as file:
            known = Reference.layout(len(values["class_names"])) if "counts" in file else {}
            arrays = file.read({**digests, **known}, _LARGEST)
        reference = Reference.from_arrays(arrays) if known else None
        fitted, chosen = tuple(values["fitted_on"]), tuple(values["chosen_by"])
        return cls({split: arrays[split] for split in SPLITS}, fitted, chosen, reference)


def note_measured(head: Path, split: str, digests: Iterable[str]) -> int:
    """Note in the folder of a head that it was measured on these rows; how often that was done, this time included.

    A folder that cannot be written keeps its count: the measure itself is no worse for it.

    Raises:
        HeadError: the list is damaged.
    """
    file, rows = head / MEASURED, sorted(digests)
    images = hashlib.sha256("".join(rows).encode()).hexdigest()[:16]
    same: MeasureDocument = {"split": split, "rows": len(rows), "images": images}
    try:
        lines = read_regular(file, LIMIT).splitlines() if os.path.lexists(file) else []
        before = sum(parse(line, MeasureDocument) == same for line in lines)
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else error
        raise HeadError(f"{file}: not readable ({reason}): delete it; the measures noted there are then lost") from None
    try:
        with file.open("a") as opened:
            opened.write(json.dumps(same) + "\n")
    except OSError:
        pass
    return before + 1
