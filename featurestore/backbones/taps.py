"""Which of a network's layers are tapped, and how their outputs become rows: names, globs, slices, and pooling."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from featurestore.errors import BackboneError, nearest, suggest
from featurestore.spec import LAST, POOLS, Pool, Tap

TOKEN_POOLS: tuple[Pool, ...] = ("cls", "patches", "cls+patches")
"""Ways to pool that tell a class token from others."""

Wanted = tuple[str, Pool | None]
"""A pattern of layers, see :func:`matching`, and how they are pooled; None for what suits each."""


@dataclass(frozen=True)
class Tokens:
    """How a network's sequences of tokens (T, C) begin, in front of the patches' tokens.

    Attributes:
        cls: whether with a class token.
        registers: the number of other tokens, behind it, that stand for no patch (Darcet et al., "Vision transformers
            need registers", ICLR 2024).
    """

    cls: bool = True
    registers: int = 0

    @property
    def prefix(self) -> int:
        """The number of tokens in front of the patches'."""
        return self.cls + self.registers

    @property
    def pool(self) -> Pool:
        """How they are pooled by default: as the linear probes of DINOv2 do (Oquab et al., arXiv 2304.07193)."""
        return "cls+patches" if self.cls else "patches"


def wanted(taps: Iterable[str | Tap], pool: Pool | None) -> list[Wanted]:
    """Return what a user asks for: patterns, of which ``NAME=POOL`` has a pooling of its own, the others `pool`.

    Raises:
        BackboneError: an unknown pooling.
    """
    found: list[Wanted] = []
    for tap in taps:
        if isinstance(tap, Tap):
            found.append((tap.layer, tap.pool))
            continue
        layer, _, own = tap.partition("=")
        chosen = own or pool
        if chosen is not None and chosen not in POOLS:
            raise BackboneError(f"unknown pooling {chosen!r}: {suggest(chosen, POOLS)}")
        found.append((layer, chosen))  # type: ignore[arg-type]
    return found


def matching(backbone: str, known: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """Return the layers that `patterns` stand for, each once, in the order of `known`.

    Args:
        backbone: its name, for the message.
        known: the layers that can be tapped; ``last`` comes after them.
        patterns: names of layers, ``last`` for the network's output, globs such as ``block*_pool``, or slices such as
            ``block[-4:]``: of the layers whose names are ``block`` and a number, in their order.

    Raises:
        BackboneError: a pattern that no layer matches; the message names the nearest.
    """
    names = [*known, LAST]
    found: set[str] = set()
    for pattern in patterns:
        # A name may hold characters that mean something in a glob.
        matched = [pattern] if pattern in names else _sliced(known, pattern)
        if matched is None:
            matched = [name for name in known if fnmatchcase(name, pattern)]
        if not matched:
            raise BackboneError(f"{backbone} has no layer {pattern!r} to tap: {nearest(pattern, names)}")
        found.update(matched)
    return [name for name in names if name in found]


def _sliced(known: Sequence[str], pattern: str) -> list[str] | None:
    """Return the layers of a slice; None if the pattern is no slice."""
    parts = re.fullmatch(r"(.+)\[(-?\d{0,9}):(-?\d{0,9})\]", pattern)
    if parts is None or "-" in parts.groups()[1:]:
        return None
    stem, *ends = parts.groups()
    numbered = [name for name in known if re.fullmatch(re.escape(stem) + r"\d+", name)]
    numbered.sort(key=lambda name: int(name[len(stem) :]))
    first, last = (int(end) if end else None for end in ends)
    return numbered[first:last]


def resolve(
    backbone: str,
    layers: Mapping[str, Sequence[int]],
    output: str,
    taps: Iterable[Wanted],
    tokens: Tokens | None = None,
) -> tuple[Tap, ...]:
    """Return taps with the names of layers in place of patterns, each once, in the network's order.

    Args:
        backbone: its name, for the message.
        layers: those that can be tapped, with the shape of each output for one image.
        output: the layer that gives the network's output; it is called ``last``.
        taps: what is asked for.
        tokens: of a network of tokens.

    Raises:
        BackboneError: see :func:`matching`; or a pooling of tokens, where there are none.
    """
    order = [*layers, LAST]
    found = set()
    for pattern, pool in taps:
        for layer in matching(backbone, list(layers), [pattern]):
            shape = layers[output if layer == LAST else layer]
            chosen = pool or default_pool(shape, tokens)
            check_pool(f"{backbone}, {layer!r}", shape, chosen, tokens)
            found.add(Tap(LAST if layer == output else layer, chosen))
    return tuple(sorted(found, key=lambda tap: (order.index(tap.layer), POOLS.index(tap.pool))))


def default_pool(shape: Sequence[int], tokens: Tokens | None) -> Pool:
    """Return how outputs of a shape, that of one image, are pooled if nothing is asked for."""
    return tokens.pool if tokens and len(shape) == 2 else "avg"


def check_pool(where: str, shape: Sequence[int], pool: Pool, tokens: Tokens | None) -> None:
    """Refuse to pool outputs of a shape by their tokens where they have none.

    Raises:
        BackboneError: so it is.
    """
    if pool not in TOKEN_POOLS:
        return
    if tokens is None or len(shape) != 2:
        raise BackboneError(f"{where} gives {tuple(shape)} and no tokens: pass another --pool than {pool!r}, or none")
    if "cls" in pool and not tokens.cls:
        raise BackboneError(f"{where} has no class token: pass --pool patches")
