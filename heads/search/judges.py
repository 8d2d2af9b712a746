"""The judges: which function fits and judges the heads of each family."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from featurestore.errors import HeadError
from heads.kinds.design import HeadDesign, head_class
from heads.search.judge_alone import judge_alone
from heads.search.judge_dense import judge_dense
from heads.search.judge_discriminant import judge_discriminant
from heads.search.judge_kernel import judge_kernel
from heads.search.judge_linear import judge_linear
from heads.search.judge_neighbours import judge_neighbours
from heads.search.judging import Judging

Batch = list[HeadDesign]
"""Designs of one family."""
JudgeOfFamily = Callable[[Sequence[HeadDesign], Judging], None]
"""Fits and judges designs of one family."""


class Judge(NamedTuple):
    """How the heads of a family are judged.

    Attributes:
        judge: fits and judges designs of the family.
        dependent: whether what a design gives depends on the designs that are judged with it, because some start from
            others' solutions or are compared on the way.
    """

    judge: JudgeOfFamily
    dependent: bool = False


JUDGES = {
    "discriminant": Judge(judge_discriminant),
    "linear": Judge(judge_linear, dependent=True),
    "neighbours": Judge(judge_neighbours),
    "kernel": Judge(judge_kernel),
    "dense": Judge(judge_dense, dependent=True),
    "alone": Judge(judge_alone),
}
"""Family of a head, see :class:`heads.kinds.base.Head`, -> its judge; the cheapest family first."""


def batches(
    designs: Sequence[HeadDesign], known: Collection[HeadDesign] = (), *, again: bool = True
) -> Iterator[tuple[JudgeOfFamily, Batch]]:
    """Yield each judge that is needed with the designs of its family, the cheapest family first.

    Args:
        designs: designs of any families, all different.
        known: designs that are judged already. They are judged again only where others depend on them, so that a sweep
            that goes on finds what it would have found in one go.
        again: whether they are, or only the others in any case.

    Raises:
        HeadError: a design is of a family that has no judge.
    """
    families = [_family(design) for design in designs]
    for family, (judge, dependent) in JUDGES.items():
        mine = [design for design, each in zip(designs, families, strict=True) if each == family]
        new = [design for design in mine if design not in known]
        if new:
            yield judge, mine if dependent and again else new


def _family(design: HeadDesign) -> str:
    family = head_class(design.kind).family
    if family not in JUDGES:
        raise HeadError(
            f"head {design.kind!r} is of the family {family!r}, which no judge takes: known: {', '.join(JUDGES)}"
        )
    return family
