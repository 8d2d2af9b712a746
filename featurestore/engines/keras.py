"""The reference engine: the Keras model itself, compiled by its backend."""

from featurestore.backbones import Backbone
from featurestore.engines.engine import Compute


def compile_backbone(backbone: Backbone) -> Compute:
    """The model's own compiled forward pass (as fast as a traced function, and the same on every backend)."""
    compute: Compute = backbone.model.predict_on_batch
    return compute
