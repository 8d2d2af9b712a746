"""Which images a head has seen, and how often it was measured: so that no figure is taken on rows it knows."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from heads.shift import Reference

ROWS, MEASURED = "rows.safetensors", "measured.jsonl"
"""Files of a saved head: what :class:`Record` holds in arrays; a line per measure on test rows."""

SPLITS = ("train", "validation", "test")

FITTED, CHOSEN = "fitted", "chosen"
"""What a head may have done with a row: learned from it, or been preferred to other heads for its answer there."""

_BYTES = 16
"""Of each image's SHA-256: among a million images, two that begin alike are less likely than a bit that flips."""


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

    @cached_property
    def _split(self) -> dict[bytes, str]:
        return {row.tobytes(): split for split, rows in self.digests.items() for row in rows}

    def split_of(self, digests: Iterable[str]) -> NDArray[Any]:
        """The split that each image was in (N,), by its digest in hexadecimal; "" for images that were not there."""
        return np.array([self._split.get(bytes.fromhex(d[: 2 * _BYTES]), "") for d in digests], dtype="U10")

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
    def read(cls, path: Path, values: Mapping[str, Any]) -> "Record":
        """Inverse of :meth:`packed` and :meth:`to_dict`.

        Raises:
            ValueError, KeyError, OSError, SafetensorError: not what they write.
        """
        from safetensors.numpy import load_file

        arrays = dict(load_file(path))
        digests = {split: arrays.pop(split) for split in SPLITS}
        fitted, chosen = (tuple(map(str, values[name])) for name in ("fitted_on", "chosen_by"))
        if not {*fitted, *chosen} <= digests.keys():
            raise ValueError(f"its splits are not {', '.join(SPLITS)}")
        for split, rows in digests.items():
            if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != _BYTES:
                raise ValueError(f"{split} is {rows.dtype} {rows.shape}, not uint8 (rows, {_BYTES})")
        return cls(digests, fitted, chosen, Reference.from_arrays(arrays) if arrays else None)


def note_measured(head: Path, split: str, digests: Iterable[str]) -> int:
    """Note in the folder of a head that it was measured on these rows; how often that was done, this time included.

    A folder that cannot be written keeps its count: the measure itself is no worse for it.

    Raises:
        HeadError: the list is damaged.
    """
    file, rows = head / MEASURED, sorted(digests)
    same = {"split": split, "rows": len(rows), "images": hashlib.sha256("".join(rows).encode()).hexdigest()[:16]}
    try:
        before = [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []
    except (OSError, ValueError) as error:
        raise HeadError(f"{file}: not readable ({error}): delete it; the measures noted there are then lost") from error
    try:
        with file.open("a") as lines:
            lines.write(json.dumps(same) + "\n")
    except OSError:
        pass
    return before.count(same) + 1
