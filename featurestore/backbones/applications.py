"""The networks of ``keras.applications``, with the output that they have there without classifier and pooling. To add
one, add its line.

ConvNeXt's output is normalized at each place here, and then pooled; Keras' ``pooling="avg"`` normalizes the average.
"""

import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.backbones.architecture import Architecture, Weights, load_weights, one_line
from featurestore.errors import WeightsError

if TYPE_CHECKING:
    import keras


def _builder(function: str) -> Callable[..., "keras.Model"]:
    def build(size: int, weights: Weights, **options: Any) -> "keras.Model":
        import keras

        create = partial(getattr(keras.applications, function), **options)
        shape = (size, size, 3)
        if weights == "imagenet":
            try:
                with redirect_stdout(sys.stderr):  # where Keras' progress of a download belongs
                    return create(include_top=False, weights="imagenet", input_shape=shape)
            except Exception as error:  # Keras raises a bare Exception when a download fails
                raise _no_download(function, error) from error
        model = create(include_top=False, weights=None, input_shape=shape)
        if isinstance(weights, Path):
            load_weights(model, weights, function)
        return model

    return build


def _no_download(function: str, error: Exception) -> WeightsError:
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    address = re.search(r"https?://\S+/([^/\s:]+)", str(error))
    file = f"as {address[1]} " if address else ""
    reason = str(error).rsplit(" -- ", 1)[-1]
    return WeightsError(
        f"the ImageNet weights of {function} cannot be had ({one_line(reason)}): put them {file}into {home}/models, "
        "or pass --weights FILE, or --weights random"
    )


def _efficientnet(function: str) -> Callable[..., "keras.Model"]:
    """EfficientNet B0 to B7, alike whether Keras or a file gives the weights.

    Keras' files tell the channels' standard deviations as their variances, and Keras makes up for that by one more
    layer, but only with ``weights="imagenet"`` (https://github.com/tensorflow/tensorflow/issues/49930). Here the
    variances are put right, so that the same weights make the same features wherever they come from.
    """
    plain = _builder(function)

    def build(size: int, weights: Weights) -> "keras.Model":
        from keras import layers

        model = plain(size, "random" if weights == "imagenet" else weights)
        if weights == "imagenet":
            model.set_weights(plain(size, weights).get_weights())
        normalization = next(layer for layer in model.layers if isinstance(layer, layers.Normalization))
        mean, variance, count = normalization.get_weights()
        if weights == "imagenet" or np.allclose(variance, _IMAGENET_STD):
            normalization.set_weights([mean, variance * _IMAGENET_STD, count])
        normalization.finalize_state()
        return model

    return build


_IMAGENET_STD = np.array((0.229, 0.224, 0.225), np.float32)
_ALPHA = {"alpha": 1.0}
_V3 = {"alpha": 1.0, "minimalistic": False}

ARCHITECTURES = (
    Architecture("xception", _builder("Xception"), 299, 71, "tf", 2048),
    Architecture("vgg16", _builder("VGG16"), 224, 32, "caffe", 512),
    Architecture("vgg19", _builder("VGG19"), 224, 32, "caffe", 512),
    Architecture("resnet50", _builder("ResNet50"), 224, 32, "caffe", 2048),
    Architecture("resnet101", _builder("ResNet101"), 224, 32, "caffe", 2048),
    Architecture("resnet152", _builder("ResNet152"), 224, 32, "caffe", 2048),
    Architecture("resnet50_v2", _builder("ResNet50V2"), 224, 32, "tf", 2048),
    Architecture("resnet101_v2", _builder("ResNet101V2"), 224, 32, "tf", 2048),
    Architecture("resnet152_v2", _builder("ResNet152V2"), 224, 32, "tf", 2048),
    Architecture("inception_v3", _builder("InceptionV3"), 299, 75, "tf", 2048),
    Architecture("inception_resnet_v2", _builder("InceptionResNetV2"), 299, 75, "tf", 1536),
    Architecture("mobilenet", _builder("MobileNet"), 224, 32, "tf", 1024, options=_ALPHA),
    Architecture("mobilenet_v2", _builder("MobileNetV2"), 224, 32, "tf", 1280, options=_ALPHA),
    Architecture("mobilenet_v3_small", _builder("MobileNetV3Small"), 224, 32, "none", 576, options=_V3),
    Architecture("mobilenet_v3_large", _builder("MobileNetV3Large"), 224, 32, "none", 960, options=_V3),
    Architecture("densenet121", _builder("DenseNet121"), 224, 32, "torch", 1024),
    Architecture("densenet169", _builder("DenseNet169"), 224, 32, "torch", 1664),
    Architecture("densenet201", _builder("DenseNet201"), 224, 32, "torch", 1920),
    Architecture("nasnet_mobile", _builder("NASNetMobile"), 224, 32, "tf", 1056),
    Architecture("nasnet_large", _builder("NASNetLarge"), 331, 32, "tf", 4032),
    Architecture("efficientnet_b0", _efficientnet("EfficientNetB0"), 224, 32, "none", 1280),
    Architecture("efficientnet_b1", _efficientnet("EfficientNetB1"), 240, 32, "none", 1280),
    Architecture("efficientnet_b2", _efficientnet("EfficientNetB2"), 260, 32, "none", 1408),
    Architecture("efficientnet_b3", _efficientnet("EfficientNetB3"), 300, 32, "none", 1536),
    Architecture("efficientnet_b4", _efficientnet("EfficientNetB4"), 380, 32, "none", 1792),
    Architecture("efficientnet_b5", _efficientnet("EfficientNetB5"), 456, 32, "none", 2048),
    Architecture("efficientnet_b6", _efficientnet("EfficientNetB6"), 528, 32, "none", 2304),
    Architecture("efficientnet_b7", _efficientnet("EfficientNetB7"), 600, 32, "none", 2560),
    Architecture("efficientnet_v2_b0", _builder("EfficientNetV2B0"), 224, 32, "none", 1280),
    Architecture("efficientnet_v2_b1", _builder("EfficientNetV2B1"), 240, 32, "none", 1280),
    Architecture("efficientnet_v2_b2", _builder("EfficientNetV2B2"), 260, 32, "none", 1408),
    Architecture("efficientnet_v2_b3", _builder("EfficientNetV2B3"), 300, 32, "none", 1536),
    Architecture("efficientnet_v2_s", _builder("EfficientNetV2S"), 384, 32, "none", 1280),
    Architecture("efficientnet_v2_m", _builder("EfficientNetV2M"), 480, 32, "none", 1280),
    Architecture("efficientnet_v2_l", _builder("EfficientNetV2L"), 480, 32, "none", 1280),
    Architecture("convnext_tiny", _builder("ConvNeXtTiny"), 224, 32, "none", 768),
    Architecture("convnext_small", _builder("ConvNeXtSmall"), 224, 32, "none", 768),
    Architecture("convnext_base", _builder("ConvNeXtBase"), 224, 32, "none", 1024),
    Architecture("convnext_large", _builder("ConvNeXtLarge"), 224, 32, "none", 1536),
    Architecture("convnext_xlarge", _builder("ConvNeXtXLarge"), 224, 32, "none", 2048),
)
