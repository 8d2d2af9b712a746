"""Which samples train, which choose between heads, and which are kept for the end."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from featurestore.sources.groups import divided, units
from featurestore.sources.samples import Sample
from featurestore.sources.stratify import iterative_parts
from featurestore.sources.tasks import CLASSIFICATION, Task

SPLITS = ("train", "validation", "test")
"""From the weakest to the strongest: an image given in two of them counts in the stronger one."""

DUPLICATE = "duplicate"
"""Split of a row that is left out because a stronger split holds the same image."""

_FEWEST = 3

Strata = tuple[int, ...]
"""The strata that an image is of."""


def assign_splits(
    samples: Sequence[Sample],
    previous: Mapping[str, str],
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
    *,
    class_names: Sequence[str] = (),
    task: Task = CLASSIFICATION,
) -> tuple[list[Sample], list[str]]:
    """Give each sample its split; the same image never stands in two splits.

    Splits that the source gives are kept. Else each class is divided by `fractions`: images with a split in
    `previous` keep it, the others are placed in the order of their digests, so that neither names nor machines nor
    the order of files matter. Images of one group stay together, the largest groups being placed first. Images with
    several labels are placed by iterative stratification, see :func:`_iteratively`.

    Args:
        samples: with digests.
        previous: digest to split, from an earlier run.
        fractions: of train, validation and test; they sum to 1.
        class_names: of the labels.
        task: what is asked of the images.

    Returns:
        The samples in the same order, and notes for people: duplicates, contradictions, classes too small, groups
        that are divided.
    """
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"fractions must be three shares that sum to 1, not {fractions}")
    notes = _contradictions(samples, task, len(class_names)) + _unlabelled(samples, task, len(class_names))
    if any(sample.split for sample in samples):
        splits, more = _given(samples)
    else:
        splits, more = _stratified(samples, previous, fractions, class_names, task)
    placed = [
        sample if sample.split == split else replace(sample, split=split)
        for sample, split in zip(samples, splits, strict=True)
    ]
    return placed, notes + more + divided((sample.group, sample.split) for sample in placed)


def hashed_splits(
    samples: Sequence[Sample],
    known: Mapping[str, str],
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
) -> list[Sample]:
    """Give each sample a split that needs no look at the others: a hash of its group, or of its image, says which.

    So an image, or a group, has one split in whatever shard it stands, on whatever machine. The fractions are those of
    chance, which of a hundred thousand images are within a few tenths of a percent.

    Args:
        samples: with digests.
        known: splits that are fixed, by digest and by group.
        fractions: of train, validation and test; they sum to 1.

    Example:
        >>> from featurestore.sources.samples import Sample
        >>> sample = Sample(id="1.jpg", path="1.jpg", digest="1" * 64, label=0, split="")
        >>> [each.split for each in hashed_splits([sample], {})]
        ['train']
    """

    def split(sample: Sample) -> str:
        if found := known.get(sample.group or sample.digest):
            return found
        key = f"group {sample.group}" if sample.group else f"image {sample.digest}"
        raw = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        share = int.from_bytes(raw[:8], "big") / 2**64
        return SPLITS[int(share >= fractions[0]) + int(share >= fractions[0] + fractions[1])]

    return [replace(sample, split=split(sample)) for sample in samples]


def split_table(
    samples: Iterable[Sample], class_names: Sequence[str], task: Task = CLASSIFICATION
) -> dict[str, dict[str, int]]:
    """Count the samples of each class in each split that occurs; the splits stand in the order of a table's columns."""
    counts = Counter((label, s.split) for s in samples for label in task.classes(s, len(class_names)))
    columns = [split for split in (*SPLITS, DUPLICATE, "") if any(key[1] == split for key in counts)]
    return {name: {split: counts[i, split] for split in columns} for i, name in enumerate(class_names)}


def split_counts(samples: Iterable[Sample]) -> dict[str, int]:
    """Count the samples of each split that occurs, in the order of a table's columns."""
    counts = Counter(sample.split for sample in samples)
    return {split: counts[split] for split in (*SPLITS, DUPLICATE, "") if counts[split]}


def _given(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    rank = {split: i for i, split in enumerate(("", *SPLITS))}
    strongest: dict[str, str] = {}
    for sample in samples:
        strongest[sample.digest] = max(strongest.get(sample.digest, ""), sample.split, key=rank.__getitem__)
    weaker = Counter((s.split, strongest[s.digest]) for s in samples if s.split != strongest[s.digest])
    notes = [
        f"{_images(n)} of {weak} also in {strong}: left out (split {DUPLICATE!r})"
        for (weak, strong), n in sorted(weaker.items())
    ]
    return [s.split if s.split == strongest[s.digest] else DUPLICATE for s in samples], notes


def _stratified(
    samples: Sequence[Sample],
    previous: Mapping[str, str],
    fractions: Sequence[float],
    class_names: Sequence[str],
    task: Task,
) -> tuple[list[str], list[str]]:
    numbers, strata = units(samples), task.strata(samples, len(class_names))
    labels: dict[int, dict[str, Strata]] = defaultdict(dict)
    for number, sample, mine in zip(numbers, samples, strata, strict=True):
        labels[number][sample.digest] = min(mine, labels[number].get(sample.digest, mine))
    sizes = Counter(label for found in labels.values() for mine in found.values() for label in mine)
    lacking = {label: dict(zip(SPLITS, _goal(n, fractions), strict=True)) for label, n in sizes.items()}
    placed: dict[int, str] = {}
    new: list[int] = []
    for number, found in labels.items():
        before = Counter(split for digest in found if (split := previous.get(digest)) in SPLITS)
        if before:  # where groups are new, there may be several: most of its images stay where they were
            placed[number] = max(SPLITS, key=lambda split: (before[split], SPLITS.index(split)))
            _fill(lacking, found, placed[number])
        else:
            new.append(number)
    new.sort(key=lambda number: (-len(labels[number]), min(labels[number])))
    if task.several:
        placed = _iteratively(labels, placed, fractions, len(class_names) + 1)
    else:
        for number in new:
            counts = _counts(labels[number])
            placed[number] = max(SPLITS, key=lambda split: sum(n * lacking[each][split] for each, n in counts.items()))
            _fill(lacking, labels[number], placed[number])
    splits = [placed[number] for number in numbers]
    return splits, _too_small(samples, splits, strata, sizes, class_names) if task.named else []


def _iteratively(
    labels: Mapping[int, Mapping[str, Strata]], placed: Mapping[int, str], fractions: Sequence[float], strata: int
) -> dict[int, str]:
    """Place units with several labels, see :func:`featurestore.sources.stratify.iterative_parts`.

    Args:
        labels: for each unit its images, with their labels.
        placed: units that have a split.
        fractions: of the splits.
        strata: number of all labels.
    """
    rows = sorted((digest, number, mine) for number, images in labels.items() for digest, mine in images.items())
    table = np.zeros((len(rows), strata), np.uint8)
    for row, (_, _, mine) in enumerate(rows):
        table[row, list(mine)] = 1
    numbers = [number for _, number, _ in rows]
    known = [SPLITS.index(placed[number]) if number in placed else -1 for number in numbers]
    parts = iterative_parts(table, fractions, np.array(numbers), 0, np.array(known))
    return {number: SPLITS[part] for number, part in zip(numbers, parts.tolist(), strict=True)}


def _counts(images: Mapping[str, Strata]) -> Counter[int]:
    """Count the images of a unit by their labels."""
    return Counter(label for mine in images.values() for label in mine)


def _fill(lacking: Mapping[int, dict[str, int]], images: Mapping[str, Strata], split: str) -> None:
    """Count the images of a unit, by their digests with their labels, among those that a split has."""
    for mine in images.values():
        for label in mine:
            lacking[label][split] -= 1


def _too_small(
    samples: Sequence[Sample],
    splits: Sequence[str],
    strata: Sequence[Strata],
    sizes: Mapping[int, int],
    class_names: Sequence[str],
) -> list[str]:
    """Return a note about each class that does not stand in all splits, since its images or groups are too few."""
    there: dict[int, set[str]] = defaultdict(set)
    for mine, split in zip(strata, splits, strict=True):
        for label in mine:
            there[label].add(split)
    notes, grouped = [], any(sample.group for sample in samples)
    for label, n in sorted(sizes.items()):
        if class_names and label >= len(class_names):  # the images without a label
            continue
        name = class_names[label] if class_names else label
        if n < _FEWEST and there[label] == {"train"}:
            notes.append(f"class {name!r} has {_images(n)}, too few to split: all in train")
        elif grouped and len(there[label]) < len(SPLITS):
            absent = " or ".join(split for split in SPLITS if split not in there[label])
            notes.append(f"class {name!r} has no images in {absent}: its groups are too few, or too large")
    return notes


def _goal(n: int, fractions: Sequence[float]) -> list[int]:
    """Divide `n` by the method of largest remainders, with one at least for each split; below three, all train."""
    if n < _FEWEST:
        return [n, 0, 0]
    exact = [n * fraction for fraction in fractions]
    goal = [int(share) for share in exact]
    # Ties go to the stronger split: a small class needs its test rows most.
    for i in sorted(range(3), key=lambda i: (goal[i] - exact[i], -i))[: n - sum(goal)]:
        goal[i] += 1
    for i, fraction in enumerate(fractions):
        if fraction > 0 and not goal[i]:
            goal[goal.index(max(goal))] -= 1
            goal[i] = 1
    return goal


def _contradictions(samples: Sequence[Sample], task: Task, classes: int) -> list[str]:
    first: dict[str, Sample] = {}
    pairs: dict[str, tuple[str, str]] = {}
    for sample in samples:
        other = first.setdefault(sample.digest, sample)
        if task.contradicts(other, sample, classes):
            pairs.setdefault(sample.digest, (other.id, sample.id))
    if not pairs:
        return []
    one, two = next(iter(pairs.values()))
    return [f"{_images(len(pairs))} under two {task.answers} (first: {one!r}, {two!r})"]


def _unlabelled(samples: Sequence[Sample], task: Task, classes: int) -> list[str]:
    count = sum(not task.classes(sample, classes) for sample in samples) if task.several else 0
    return [f"{_images(count)} without any label"] if count else []


def _images(n: int) -> str:
    return "1 image" if n == 1 else f"{n} images"
