"""Which samples train, which choose between heads, and which are kept for the end."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from featurestore.sources.samples import Sample

SPLITS = ("train", "validation", "test")
"""From the weakest to the strongest: an image given in two of them counts in the stronger one."""

DUPLICATE = "duplicate"
"""Split of a row that is left out because a stronger split holds the same image."""

_FEWEST = 3


def assign_splits(
    samples: Sequence[Sample],
    previous: Mapping[str, str],
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
    *,
    class_names: Sequence[str] = (),
) -> tuple[list[Sample], list[str]]:
    """Give each sample its split; the same image never stands in two splits.

    Splits that the source gives are kept. Else each class is divided by `fractions`: images with a split in
    `previous` keep it, the others are placed in the order of their digests, so that neither names nor machines nor
    the order of files matter.

    Args:
        samples: with digests.
        previous: digest to split, from an earlier run.
        fractions: of train, validation and test; they sum to 1.
        class_names: for the notes.

    Returns:
        The samples in the same order, and notes for people: duplicates, contradictions, classes too small.
    """
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"fractions must be three shares that sum to 1, not {fractions}")
    notes = _contradictions(samples)
    if any(sample.split for sample in samples):
        splits, more = _given(samples)
    else:
        splits, more = _stratified(samples, previous, fractions, class_names)
    placed = [
        sample if sample.split == split else replace(sample, split=split)
        for sample, split in zip(samples, splits, strict=True)
    ]
    return placed, notes + more


def split_table(samples: Iterable[Sample], class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the samples of each class in each split that occurs; the splits stand in the order of a table's columns."""
    counts = Counter((sample.label, sample.split) for sample in samples)
    columns = [split for split in (*SPLITS, DUPLICATE, "") if any(key[1] == split for key in counts)]
    return {name: {split: counts[i, split] for split in columns} for i, name in enumerate(class_names)}


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
    samples: Sequence[Sample], previous: Mapping[str, str], fractions: Sequence[float], class_names: Sequence[str]
) -> tuple[list[str], list[str]]:
    label_of: dict[str, int] = {}
    for sample in samples:
        label_of[sample.digest] = min(sample.label, label_of.get(sample.digest, sample.label))
    by_class: dict[int, list[str]] = defaultdict(list)
    for digest in sorted(label_of):
        by_class[label_of[digest]].append(digest)
    splits: dict[str, str] = {}
    notes = []
    for label, digests in sorted(by_class.items()):
        placed = _placed(digests, previous, fractions)
        splits |= placed
        if len(digests) < _FEWEST and set(placed.values()) == {"train"}:
            name = class_names[label] if class_names else label
            notes.append(f"class {name!r} has {_images(len(digests))}, too few to split: all in train")
    return [splits[sample.digest] for sample in samples], notes


def _placed(digests: list[str], previous: Mapping[str, str], fractions: Sequence[float]) -> dict[str, str]:
    """Return the splits of one class: each new digest goes to the split that lacks most."""
    placed = {digest: previous[digest] for digest in digests if previous.get(digest) in SPLITS}
    held = Counter(placed.values())
    missing = {split: n - held[split] for split, n in zip(SPLITS, _goal(len(digests), fractions), strict=True)}
    for digest in digests:
        if digest not in placed:
            placed[digest] = max(missing, key=missing.__getitem__)
            missing[placed[digest]] -= 1
    return placed


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


def _contradictions(samples: Sequence[Sample]) -> list[str]:
    first: dict[str, Sample] = {}
    pairs: dict[str, tuple[str, str]] = {}
    for sample in samples:
        other = first.setdefault(sample.digest, sample)
        if other.label != sample.label:
            pairs.setdefault(sample.digest, (other.id, sample.id))
    if not pairs:
        return []
    one, two = next(iter(pairs.values()))
    return [f"{_images(len(pairs))} under two classes (first: {one!r}, {two!r})"]


def _images(n: int) -> str:
    return "1 image" if n == 1 else f"{n} images"
