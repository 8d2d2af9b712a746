"""The networks of ``keras.applications``, without classifier and pooling. To add one, add its line.

ConvNeXt's output is normalized at each place here, and then pooled; Keras' ``pooling="avg"`` normalizes the average.
"""

import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.backbones.base import Weights
from featurestore.backbones.keras_network import KerasArchitecture, keras_home, load_weights
from featurestore.errors import WeightsError, one_line

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
    address = re.search(r"https?://\S+/([^/\s:]+)", str(error))
    file = f"as {address[1]} " if address else ""
    reason = str(error).rsplit(" -- ", 1)[-1]
    return WeightsError(
        f"the ImageNet weights of {function} cannot be had ({one_line(reason)}): put them {file}into "
        f"{keras_home()}/models, or pass --weights FILE, or --weights random"
    )


def _efficientnet(function: str) -> Callable[..., "keras.Model"]:
    """Build EfficientNet B0 to B7 so that the same weights make the same features, from Keras or from a file.

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
    KerasArchitecture("xception", 299, 71, "tf", 2048, build=_builder("Xception")),
    KerasArchitecture("vgg16", 224, 32, "caffe", 512, build=_builder("VGG16")),
    KerasArchitecture("vgg19", 224, 32, "caffe", 512, build=_builder("VGG19")),
    KerasArchitecture("resnet50", 224, 32, "caffe", 2048, build=_builder("ResNet50")),
    KerasArchitecture("resnet101", 224, 32, "caffe", 2048, build=_builder("ResNet101")),
    KerasArchitecture("resnet152", 224, 32, "caffe", 2048, build=_builder("ResNet152")),
    KerasArchitecture("resnet50_v2", 224, 32, "tf", 2048, build=_builder("ResNet50V2")),
    KerasArchitecture("resnet101_v2", 224, 32, "tf", 2048, build=_builder("ResNet101V2")),
    KerasArchitecture("resnet152_v2", 224, 32, "tf", 2048, build=_builder("ResNet152V2")),
    KerasArchitecture("inception_v3", 299, 75, "tf", 2048, build=_builder("InceptionV3")),
    KerasArchitecture("inception_resnet_v2", 299, 75, "tf", 1536, build=_builder("InceptionResNetV2")),
    KerasArchitecture("mobilenet", 224, 32, "tf", 1024, build=_builder("MobileNet"), options=_ALPHA),
    KerasArchitecture("mobilenet_v2", 224, 32, "tf", 1280, build=_builder("MobileNetV2"), options=_ALPHA),
    KerasArchitecture("mobilenet_v3_small", 224, 32, "none", 576, build=_builder("MobileNetV3Small"), options=_V3),
    KerasArchitecture("mobilenet_v3_large", 224, 32, "none", 960, build=_builder("MobileNetV3Large"), options=_V3),
    KerasArchitecture("densenet121", 224, 32, "torch", 1024, build=_builder("DenseNet121")),
    KerasArchitecture("densenet169", 224, 32, "torch", 1664, build=_builder("DenseNet169")),
    KerasArchitecture("densenet201", 224, 32, "torch", 1920, build=_builder("DenseNet201")),
    KerasArchitecture("nasnet_mobile", 224, 32, "tf", 1056, build=_builder("NASNetMobile")),
    KerasArchitecture("nasnet_large", 331, 32, "tf", 4032, build=_builder("NASNetLarge")),
    KerasArchitecture("efficientnet_b0", 224, 32, "none", 1280, build=_efficientnet("EfficientNetB0")),
    KerasArchitecture("efficientnet_b1", 240, 32, "none", 1280, build=_efficientnet("EfficientNetB1")),
    KerasArchitecture("efficientnet_b2", 260, 32, "none", 1408, build=_efficientnet("EfficientNetB2")),
    KerasArchitecture("efficientnet_b3", 300, 32, "none", 1536, build=_efficientnet("EfficientNetB3")),
    KerasArchitecture("efficientnet_b4", 380, 32, "none", 1792, build=_efficientnet("EfficientNetB4")),
    KerasArchitecture("efficientnet_b5", 456, 32, "none", 2048, build=_efficientnet("EfficientNetB5")),
    KerasArchitecture("efficientnet_b6", 528, 32, "none", 2304, build=_efficientnet("EfficientNetB6")),
    KerasArchitecture("efficientnet_b7", 600, 32, "none", 2560, build=_efficientnet("EfficientNetB7")),
    KerasArchitecture("efficientnet_v2_b0", 224, 32, "none", 1280, build=_builder("EfficientNetV2B0")),
    KerasArchitecture("efficientnet_v2_b1", 240, 32, "none", 1280, build=_builder("EfficientNetV2B1")),
    KerasArchitecture("efficientnet_v2_b2", 260, 32, "none", 1408, build=_builder("EfficientNetV2B2")),
    KerasArchitecture("efficientnet_v2_b3", 300, 32, "none", 1536, build=_builder("EfficientNetV2B3")),
    KerasArchitecture("efficientnet_v2_s", 384, 32, "none", 1280, build=_builder("EfficientNetV2S")),
    KerasArchitecture("efficientnet_v2_m", 480, 32, "none", 1280, build=_builder("EfficientNetV2M")),
    KerasArchitecture("efficientnet_v2_l", 480, 32, "none", 1280, build=_builder("EfficientNetV2L")),
    KerasArchitecture("convnext_tiny", 224, 32, "none", 768, build=_builder("ConvNeXtTiny")),
    KerasArchitecture("convnext_small", 224, 32, "none", 768, build=_builder("ConvNeXtSmall")),
    KerasArchitecture("convnext_base", 224, 32, "none", 1024, build=_builder("ConvNeXtBase")),
    KerasArchitecture("convnext_large", 224, 32, "none", 1536, build=_builder("ConvNeXtLarge")),
    KerasArchitecture("convnext_xlarge", 224, 32, "none", 2048, build=_builder("ConvNeXtXLarge")),
)
