"""The image backbones of keras-hub by their classes, and how each becomes a row of layers that can be tapped.

In keras-hub an encoder is one layer, or a model inside a model. Here its blocks stand side by side, called ``block0``,
``block1`` and so on; they are the same objects with the same weights, so the features are the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurestore.backbones.taps import Tokens

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Family:
    """What all presets of one class have in common.

    Attributes:
        licence: of the weights, where their own card tells none; empty where presets of the class differ.
        unfold: from the backbone and a tensor of images to its output, through blocks; None for its own graph.
        tokens: from the arguments of its class to how its tokens begin; None for a network of maps.
        resizable: whether it takes images of other sizes than its preset's: a network of maps, or one whose position
            embeddings are interpolated or rotary.
        tower: whether it is the vision tower of a network of images and texts.
        preprocessing: where a preset tells none.
        reads: see :func:`featurestore.backbones.keras_archive.check_built`.
    """

    licence: str
    unfold: "Callable[[Any, Any], Any] | None" = None
    tokens: Callable[[Mapping[str, Any]], Tokens] | None = None
    resizable: bool = True
    tower: bool = False
    preprocessing: str = "torch"
    reads: bool = False


def trunk(family: Family, backbone: "keras.Model", size: int, name: str) -> "keras.Model":
    """Return the part of a backbone that takes images, as a functional model of one input and one output.

    Args:
        family: the backbone's.
        backbone: as keras-hub builds it.
        size: side of its images.
        name: of the model.
    """
    import keras

    if family.unfold is None:
        found = backbone.output
        if isinstance(found, dict):  # of HGNetV2, whose last stage is the deepest; its stem has a later name
            found = found[max(key for key in found if key.startswith("stage"))]
        return keras.Model(backbone.inputs[0], found, name=name)
    images = keras.Input((size, size, 3), name="images")
    return keras.Model(images, family.unfold(backbone, images), name=name)


def _called(layer: Any, name: str) -> Any:
    layer.name = name
    return layer


def _row(tensor: Any, named: Iterable[tuple[str, Any]]) -> Any:
    for name, layer in named:
        tensor = _called(layer, name)(tensor)
    return tensor


def _blocks(layers: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(f"block{i}", layer) for i, layer in enumerate(layers)]


def _dinov2(backbone: Any, images: Any) -> Any:
    encoder = _blocks(backbone.encoder.layers)
    return _row(images, [("embeddings", backbone.embeddings), *encoder, ("norm", backbone.layernorm)])


def _dinov3(backbone: Any, images: Any) -> Any:
    tokens = _called(backbone.embeddings, "embeddings")(images)
    positions = _called(backbone.rope_embedding, "positions")(images)
    prefix = 1 + backbone.num_register_tokens
    for name, block in _blocks(backbone.encoder.layers):
        tokens = _called(block, name)(tokens, position_embeddings=positions, num_prefix_tokens=prefix)
    return _called(backbone.layernorm, "norm")(tokens)


def _vit(backbone: Any, images: Any) -> Any:
    embeddings, encoder = (backbone.get_layer(f"vit_{part}") for part in ("patching_and_embedding", "encoder"))
    blocks = _blocks(encoder.encoder_layers)
    return _row(images, [("embeddings", embeddings), *blocks, ("norm", encoder.layer_norm)])


def _deit(backbone: Any, images: Any) -> Any:
    """A block of DeiT's gives None beside its tokens, which no graph takes: its parts become a model of their own."""
    import keras

    embeddings, encoder = (backbone.get_layer(f"deit_{part}") for part in ("patching_and_embedding", "encoder"))
    tokens, told = _called(embeddings, "embeddings")(images), embeddings.get_config()
    # Its own names two arguments that it does not take (keras-hub 0.32), and no saved model could be read again.
    embeddings.get_config = lambda: {key: told[key] for key in told if key not in ("num_patches", "num_positions")}
    for name, block in _blocks(encoder.encoder_layers):
        before = keras.Input(tokens.shape[1:])
        normed = block.layer_norm_1(before)
        seen = keras.layers.Add(name="add")([block.mha(normed, normed), before])
        after = block.output_layer(block.mlp(block.layer_norm_2(seen)), seen)
        tokens = keras.Model(before, after, name=name)(tokens)
    return _called(encoder.layer_norm, "norm")(tokens)


def _siglip(backbone: Any, images: Any) -> Any:
    tower = backbone.vision_encoder
    tokens = (tower.image_shape[0] // tower.patch_size) ** 2
    # Its own tells one token more than there are (keras-hub 0.32).
    tower.embedding.compute_output_shape = lambda shape: (shape[0], tokens, tower.hidden_dim)
    blocks = _blocks(tower.encoder_layers)
    rest = [("norm", tower.post_layer_norm), ("head", tower.head)]
    return _row(images, [("embeddings", tower.embedding), *blocks, *rest])


def _clip(backbone: Any, images: Any) -> Any:
    """As ``get_vision_embeddings`` of CLIP, which norms before the pooling, and of MetaCLIP 2, which norms after."""
    tower = backbone.vision_encoder
    start = [("embeddings", tower.embedding), ("pre_norm", tower.pre_layer_norm)]
    rest = [("pooled", backbone.vision_pooler)]
    if hasattr(tower, "layer_norm"):
        rest = [("norm", tower.layer_norm), *rest]
    else:
        rest = [*rest, ("norm", backbone.vision_post_layer_norm)]
    return _row(images, [*start, *_blocks(tower.encoder_layers), *rest, ("projection", backbone.vision_projection)])


def _registers(default: int) -> Callable[[Mapping[str, Any]], Tokens]:
    return lambda values: Tokens(registers=int(values.get("num_register_tokens", default)))


def _class_token(values: Mapping[str, Any]) -> Tokens:
    return Tokens(cls=bool(values.get("use_class_token", True)))


APACHE, MIT, BSD = "apache-2.0", "mit", "bsd-3-clause"
_CLIP = {"unfold": _clip, "tokens": _class_token, "resizable": False, "tower": True, "preprocessing": "clip"}

FAMILIES: dict[str, Family] = {
    "DINOV2Backbone": Family(APACHE, _dinov2, _registers(0), reads=True),
    "DINOV3Backbone": Family("dinov3-license", _dinov3, _registers(4)),
    "SigLIPBackbone": Family(
        APACHE, _siglip, lambda _: Tokens(cls=False), resizable=False, tower=True, preprocessing="tf"
    ),
    "CLIPBackbone": Family(MIT, **_CLIP),  # type: ignore[arg-type]
    "MetaCLIP2Backbone": Family("cc-by-nc-4.0", **_CLIP),  # type: ignore[arg-type]
    "ViTBackbone": Family(APACHE, _vit, _class_token, resizable=False, preprocessing="tf"),
    # Behind the class token stands that of the distillation.
    "DeiTBackbone": Family(APACHE, _deit, lambda _: Tokens(registers=1), resizable=False),
    "SwinTransformerBackbone": Family(MIT, tokens=lambda _: Tokens(cls=False), resizable=False),
    "MobileNetBackbone": Family(APACHE),
    "MobileNetV5Backbone": Family("gemma", preprocessing="mean=0,0,0 std=255,255,255"),
    "EfficientNetBackbone": Family(APACHE),
    "ResNetBackbone": Family(APACHE),
    "DenseNetBackbone": Family(BSD),
    "CSPNetBackbone": Family(APACHE),
    "HGNetV2Backbone": Family(APACHE),
    "VGGBackbone": Family(BSD),
    "XceptionBackbone": Family(APACHE, preprocessing="tf"),
    "MiTBackbone": Family("nvidia-source-code-license"),
}
"""Image backbones by the names of keras-hub's classes. Encoders of whole tasks (segmentation, language) are no part."""
