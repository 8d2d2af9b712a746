"""Groups: images that must not be divided between splits or folds, such as those of one patient."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from featurestore.errors import SourceError
from featurestore.sources.base import Source
from featurestore.sources.columns import Samples
from featurestore.sources.samples import Sample


def grouped(source: Source, pattern: str) -> Source:
    """Give the samples of a source the groups that a regular expression finds in their paths, or ids.

    Args:
        source: is changed and returned.
        pattern: what its brackets hold is the group's name, or all that it finds.

    Raises:
        SourceError: it is no regular expression, or is found in no path.
    """
    try:
        find = re.compile(pattern).search
    except re.error as error:
        raise SourceError(f"{source.name}: group pattern {pattern!r} is no regular expression ({error})") from error
    listing = source.listing()
    samples = Samples.of(
        structs.replace(sample, group=_name(find(sample.path or sample.id))) for sample in listing.samples
    )
    if not any(samples.groups.names):
        first = samples[0].path or samples[0].id
        raise SourceError(
            f"{source.name}: group pattern {pattern!r} is found in no path (the first is {first!r}): "
            r"write one such as 'person\d+'"
        )
    source.relist(replace(listing, samples=samples))
    return source


def _name(found: re.Match[str] | None) -> str:
    if found is None:
        return ""
    return "/".join(part or "" for part in found.groups()) or found[0]


def units(samples: Sequence[Sample]) -> list[int]:
    """Number what must not be divided: images that share a group, or a digest with one of it, have one number.

    Args:
        samples: with digests.

    Returns:
        For each sample the number of its unit: the place of the first sample of it.
    """
    first: dict[str, int] = {}
    if not any(sample.group for sample in samples):  # there may be millions
        return [first.setdefault(sample.digest, i) for i, sample in enumerate(samples)]
    parent = list(range(len(samples)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, sample in enumerate(samples):
        for key in (sample.digest, sample.group and f"group {sample.group}"):
            if key:
                one, other = sorted((root(first.setdefault(key, i)), root(i)))
                parent[other] = one
    return [root(i) for i in range(len(samples))]


def divided(placed: Iterable[tuple[str, str]]) -> list[str]:
    """Return a note about the groups whose images stand in several splits; none if there are none.

    Args:
        placed: the group of each image, "" for none, and its split.
    """
    splits: dict[str, Counter[str]] = {}
    for group, split in placed:
        if group:
            splits.setdefault(group, Counter())[split] += 1
    broken = {name: found for name, found in splits.items() if len(found) > 1}
    if not broken:
        return []
    name, found = next(iter(broken.items()))
    shown = ", ".join(f"{count} in {split}" for split, count in sorted(found.items()))
    return [
        f"{len(broken)} of {len(splits)} groups stand in several splits as they were given (first: {name!r}, {shown}): "
        "figures on held-out rows may be too good"
    ]


def joined(images: NDArray[np.intp], names: NDArray[np.str_]) -> NDArray[np.intp]:
    """Return numbers of groups (n,), in which all rows of one image, and all of one name, are together.

    Args:
        images: number of each row's image (n,).
        names: name of each row's group (n,); "" for none.

    Example:
        >>> import numpy as np
        >>> joined(np.array([0, 1, 1, 2, 3]), np.array(["a", "b", "a", "", ""])).tolist()
        [0, 0, 0, 1, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    named = np.flatnonzero(names != "")
    known, place = np.unique(names[named], return_inverse=True)
    count = int(images.max(initial=-1)) + 1
    edges = coo_array((np.ones(len(named)), (images[named], count + place)), shape=(count + len(known),) * 2)
    return np.unique(connected_components(edges, directed=False)[1][images], return_inverse=True)[1]
