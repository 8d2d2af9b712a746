"""Frozen networks by name: build one, load its weights, and say how its input is to be prepared."""

from featurestore.backbones.registry import (
    ARCHITECTURES,
    DEFAULT,
    Backbone,
    Outline,
    check,
    find,
    load_backbone,
    pooled,
    table,
    taps_of,
)

__all__ = [
    "ARCHITECTURES",
    "DEFAULT",
    "Backbone",
    "Outline",
    "check",
    "find",
    "load_backbone",
    "pooled",
    "table",
    "taps_of",
]
