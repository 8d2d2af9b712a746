"""A small network to train from scratch, the baseline beside those that others have trained."""

from typing import TYPE_CHECKING

from featurestore.backbones.base import Weights
from featurestore.backbones.keras_network import KerasArchitecture, load_weights
from featurestore.errors import WeightsError

if TYPE_CHECKING:
    import keras

WIDTHS = (32, 64, 128, 256)


def build(size: int, weights: Weights) -> "keras.Model":
    """Blocks of convolution, batch normalization, ReLU and max-pooling, each half as wide and high as the last.

    Returns:
        A functional model from float32 (n, size, size, 3) to float32 (n, size // 16, size // 16, 256).

    Raises:
        WeightsError: ImageNet's are asked for, or the file does not fit.
    """
    if weights == "imagenet":
        raise WeightsError("small_cnn has no ImageNet weights: pass --weights random, or --weights FILE once trained")
    from keras import Input, Model, layers

    image = x = Input((size, size, 3))
    for block, width in enumerate(WIDTHS, start=1):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"block{block}_conv")(x)
        x = layers.BatchNormalization(name=f"block{block}_bn")(x)
        x = layers.ReLU(name=f"block{block}_relu")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    model = Model(image, x, name="small_cnn")
    if weights != "random":
        load_weights(model, weights, model.name)
    return model


ARCHITECTURES = (KerasArchitecture("small_cnn", 128, 32, "tf", WIDTHS[-1], "none: --weights random", build=build),)
