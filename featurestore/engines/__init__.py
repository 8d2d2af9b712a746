"""Ways to run a frozen network fast. Every engine gives the same numbers, within a tolerance."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from featurestore.backbones import Backbone
from featurestore.engines import keras
from featurestore.engines.engine import Compute

__all__ = ["DEFAULT", "Compute", "compile_backbone", "producer"]

_COMPILERS: dict[str, Callable[[Backbone], Compute]] = {"keras": keras.compile_backbone}
DEFAULT = "keras"


def compile_backbone(backbone: Backbone, engine: str = DEFAULT) -> Compute:
    """Make a backbone ready to run. Always call the result with the same batch size: kernels differ with it."""
    return _COMPILERS[engine](backbone)


def producer(engine: str = DEFAULT) -> dict[str, str]:
    """Engine and library versions: provenance of the rows that it computes."""
    from keras import backend

    found = {"engine": engine}
    for library in ("featurestore", "keras", backend.backend(), "numpy", "pillow"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
