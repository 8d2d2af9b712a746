"""What people call the splits of a data set, and what we call them."""

import re
from functools import lru_cache

from featurestore.errors import SourceError, suggest

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "hold-out": "test",
    "hold_out": "test",
}
"""The user's word and our name of the split; see :func:`split_of`."""

_WORD = f"(?P<word>{'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))}|hold out)"
_BEFORE = "(?:(?:seg|data|dataset|images?|imgs?)[ _-]+)?"
_BEHIND = "(?:[ _-]*(?:data|set|images?|imgs?|pictures|photos|samples|split|folder|dir|directory))*"
_SPLIT = re.compile(_BEFORE + _WORD + _BEHIND)
_SPLIT_INSIDE = re.compile(rf"(?<![^\W\d_]){_WORD}{_BEHIND}(?![^\W\d_])|fold[ _-]?\d+")
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")


@lru_cache(256)
def split_of(word: str) -> str | None:
    """Return the split that a word names, alone or as in ``Training_Set``, ``test-images``, ``ValData``, ``seg_test``.

    Example:
        >>> split_of("Training_Set"), split_of("contestants")
        ('train', None)
    """
    found = _SPLIT.fullmatch(word.lower()) or _SPLIT.fullmatch(_lowered(word))
    return SPLIT_WORDS[found["word"].replace(" ", "-")] if found else None


def split_in_file_name(name: str) -> str | None:
    """Return the split that stands as a word in the name of a shard: in ``train-00000-of-00005``, ``imagenet_val_01``.

    None if there is none, or there are two.

    Example:
        >>> split_in_file_name("imagenet-val-000.tar"), split_in_file_name("latest.tar")
        ('validation', None)
    """
    found = {split for word in re.split(r"[^A-Za-z]+", name) if (split := SPLIT_WORDS.get(word.lower()))}
    return found.pop() if len(found) == 1 else None


def split_named(word: str, where: str) -> str:
    """Return the split as :func:`split_of`, for a word that must name one.

    Raises:
        SourceError: it names none; the message begins with `where` the word stands.
    """
    if split := split_of(word):
        return split
    raise SourceError(f"{where}: unknown split {word!r}: {suggest(word, SPLIT_WORDS)}")


def sounds_like_a_split(name: str) -> bool:
    """Tell whether a name has a split's among its parts: ``train_1`` and ``old-test``, but not ``contestant``."""
    return bool(_SPLIT_INSIDE.search(_lowered(name)))


def _lowered(name: str) -> str:
    """Return the name in lower case, ``TrainA`` as ``train_a``."""
    return _HUMP.sub("_", name).lower()
