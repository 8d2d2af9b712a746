"""The record of the images that a head has seen, and of how often it was measured.

It keeps a head from being judged by images that it was fitted on.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import HeadError
from featurestore.sources.splits import SPLITS
from featurestore.system.documents import LIMIT, parse
from featurestore.system.files import read_regular, why
from featurestore.system.tensors import open_tensors
from heads.documents import HeadDocument, MeasureDocument
from heads.metrics.shift import Reference

ROWS, MEASURED = "rows.safetensors", "measured.jsonl"
"""Files of a saved head: the arrays of a :class:`Record`, and a line for each evaluation on test rows."""

FITTED, CHOSEN = "fitted", "chosen"
"""How a head may have seen a row: it was fitted on it, or it was chosen among other heads by its answer there."""

_BYTES = 16
"""So many bytes of each image's SHA-256 are kept: that two of a million images agree in them is next to impossible."""
_KEY = f"S{_BYTES}"
"""The NumPy type of these bytes, which compares them as one value."""
_BLOCK = 2**18
"""So many digests are compared at a time."""
_LARGEST = 2**27
"""The most bytes of the file: the digests of eight million images."""


@dataclass(frozen=True, eq=False)
class Record:
    """The splits of a head's data set when it was fitted, and which of them it has seen.

    Attributes:
        digests: split -> the first 16 bytes of the SHA-256 of each of its images, uint8 (n, 16).
        fitted: the splits that the head was fitted on.
        chosen: the splits that decided when to stop the fit, or that the head was chosen by.
        reference: how the head scores training rows that were held out; None if none were.
    """

    digests: Mapping[str, NDArray[np.uint8]]
    fitted: tuple[str, ...]
    chosen: tuple[str, ...]
    reference: Reference | None = None

    @classmethod
    def of(cls, digests: NDArray[Any], splits: NDArray[Any], fitted: Iterable[str], chosen: Iterable[str]) -> "Record":
        """Make the record from the digests in hexadecimal, str or bytes (N,), and the splits, str (N,), of all rows."""
        found = {}
        for split in SPLITS:
            some = np.unique(_keys(digests[splits == split]))
            found[split] = np.frombuffer(some.tobytes(), np.uint8).reshape(-1, _BYTES)
        return cls(found, tuple(fitted), tuple(chosen))

    def with_fitted(self, digests: NDArray[Any]) -> "Record":
        """Return the record with further images that the head has learned from, by their hexadecimal digests (N,)."""
        new, found = _keys(digests), {}
        for split, rows in self.digests.items():
            kept = np.ascontiguousarray(rows).view(_KEY).ravel()
            kept = kept[~np.isin(kept, new)]
            if split == "train":
                kept = np.unique(np.concatenate([kept, new]))
            found[split] = np.frombuffer(kept.tobytes(), np.uint8).reshape(-1, _BYTES)
        return replace(self, digests=found, fitted=tuple(dict.fromkeys((*self.fitted, "train"))))

    def split_of(self, digests: ArrayLike) -> NDArray[Any]:
        """Return the split that each image was in, by its digest in hexadecimal, str (N,); "" for unknown images."""
        asked = _keys(digests)
        found = np.full(len(asked), "", "U10")
        for split, rows in self.digests.items():
            for start in range(0, len(rows), _BLOCK):
                block = np.ascontiguousarray(rows[start : start + _BLOCK]).view(_KEY).ravel()
                found[np.isin(asked, block)] = split
        return found

    def seen(self, digests: ArrayLike) -> NDArray[Any]:
        """Return how the head has seen each image, str (N,): :data:`FITTED`, :data:`CHOSEN` or ""."""
        splits = self.split_of(digests)
        chosen = np.where(np.isin(splits, self.chosen), CHOSEN, "")
        return np.where(np.isin(splits, self.fitted), FITTED, chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return the splits that the head has seen, as plain JSON types."""
        return {"fitted_on": list(self.fitted), "chosen_by": list(self.chosen)}

    def packed(self) -> bytes:
        """Return the bytes of a file that holds the digests and the reference."""
        from safetensors.numpy import save

        known = self.reference.to_arrays() if self.reference else {}
        return save({name: np.ascontiguousarray(array) for name, array in {**self.digests, **known}.items()})

    @classmethod
    def read(cls, path: Path, values: HeadDocument) -> "Record":
        """Read what :meth:`packed` and :meth:`to_dict` returned.

        Raises:
            ValueError, KeyError, OSError: the file or the values have another form.
        """
        digests = dict.fromkeys(SPLITS, (np.uint8, (None, _BYTES)))
        with open_tensors(path) as file:
            known = Reference.layout(len(values["class_names"])) if "counts" in file else {}
            arrays = file.read({**digests, **known}, _LARGEST)
        reference = Reference.from_arrays(arrays) if known else None
        fitted, chosen = tuple(values["fitted_on"]), tuple(values["chosen_by"])
        return cls({split: arrays[split] for split in SPLITS}, fitted, chosen, reference)


def _keys(digests: ArrayLike) -> NDArray[np.bytes_]:
    """Return the first bytes of digests in hexadecimal, str or bytes (N,), as values to be compared."""
    texts = np.asarray(digests).astype(f"S{2 * _BYTES}")
    return np.frombuffer(bytes.fromhex(texts.tobytes().decode()), _KEY)


def note_measured(head: Path, split: str, digests: Iterable[str]) -> int:
    """Note in the folder of a head that it was measured on these rows.

    If the folder cannot be written, nothing is noted, since the measurement itself is as good.

    Args:
        head: the folder.
        split: the name of the split.
        digests: the SHA-256 of each row's image in hexadecimal.

    Returns:
        How often the head was measured on these rows, this time included.

    Raises:
        HeadError: the list of measurements is damaged.
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
