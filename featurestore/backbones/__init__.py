"""Frozen networks by name: build one, load its weights, and say how its input is to be prepared."""

from featurestore.backbones.base import Architecture, FrozenNetwork, Outline, Request, licence_notes
from featurestore.backbones.registry import (
    ARCHITECTURES,
    DEFAULT,
    anywhere,
    check,
    find,
    framed,
    is_outside,
    load,
    load_backbone,
    named,
    table,
    taps_of,
)

__all__ = [
    "ARCHITECTURES",
    "DEFAULT",
    "Architecture",
    "FrozenNetwork",
    "Outline",
    "Request",
    "anywhere",
    "check",
    "find",
    "framed",
    "is_outside",
    "licence_notes",
    "load",
    "load_backbone",
    "named",
    "table",
    "taps_of",
]
