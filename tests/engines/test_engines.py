import numpy as np

from featurestore.backbones import load_backbone
from featurestore.engines import compile_backbone, difference, producer


def test_the_keras_engine_gives_what_predict_gives():
    backbone = load_backbone("efficientnet_lite0", size=64)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    run = compile_backbone(backbone)
    once, again = run(pixels)()["last"], run(pixels)()["last"]
    np.testing.assert_array_equal(once, again)
    assert difference(backbone.model.predict(pixels, verbose=0)["last"], once) < 1e-5
    assert once.dtype == np.float32 and once.shape == (8, 1280)


def test_a_row_does_not_depend_on_its_neighbours():
    """What the padding of batches rests on."""
    backbone = load_backbone("efficientnet_lite0", size=64)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    run = compile_backbone(backbone)
    alone = np.zeros_like(pixels)
    alone[3] = pixels[3]
    np.testing.assert_array_equal(run(pixels)()["last"][3], run(alone)()["last"][3])


def test_the_producer_names_engine_and_versions():
    import keras

    made = producer()
    assert made["engine"] == "keras" and made["keras"] == keras.__version__
    assert {"numpy", "pillow", keras.backend.backend()} <= set(made)
