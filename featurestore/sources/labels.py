"""Class names of labels that are numbers or texts: what tar, Parquet and other tables have in common."""

import re
from collections.abc import Sequence

from featurestore.system.machine import machine_memory

MAX_IMAGES = machine_memory() // 4 // 256
"""An image costs up to 256 bytes of memory until its digest is known, and all of them a quarter of it at most."""

_NUMBER = re.compile(r"[+-]?\d{1,18}")


def class_names_of(labels: Sequence[str], names: Sequence[str] = ()) -> tuple[tuple[str, ...], list[str | None]]:
    """Return the names of the classes in their order, and the class of each label, or None where it has none.

    Args:
        labels: distinct texts.
        names: of the classes, if anything tells them: a whole number is an index into them. Otherwise each label is
            its own class, and if all are numbers, the classes have the order of these.

    Example:
        >>> class_names_of(["10", "9"])
        (('9', '10'), ['10', '9'])
        >>> class_names_of(["1", "7"], ["cat", "dog"])
        (('cat', 'dog'), ['dog', None])
    """
    whole = all(map(_NUMBER.fullmatch, labels))
    if not names:
        found = {label: str(int(label)) if whole else label for label in labels}
        return tuple(sorted(set(found.values()), key=int if whole else None)), [found[label] for label in labels]
    if whole and not set(names) >= set(labels):
        return tuple(names), [names[i] if 0 <= i < len(names) else None for i in map(int, labels)]
    known = set(names)
    return tuple(names), [label if label in known else None for label in labels]
