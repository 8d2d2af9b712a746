import numpy as np
import pytest

from featurestore.backbones import load_backbone
from featurestore.errors import WeightsError


def test_random_weights_only():
    backbone = load_backbone("small_cnn", weights="random")
    assert (backbone.size, backbone.preprocessing, backbone.shapes) == (128, "tf", {"last": (256,)})
    features = backbone.model(np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8))["last"]
    assert np.isfinite(features).all() and np.std(features) > 0
    with pytest.raises(WeightsError, match="small_cnn has no ImageNet weights: pass --weights random"):
        load_backbone("small_cnn")


def test_trained_weights_from_a_file(tmp_path):
    from featurestore.backbones import find

    trained = find("small_cnn").build(32, "random")
    trained.save_weights(tmp_path / "w.weights.h5")
    again = find("small_cnn").build(64, tmp_path / "w.weights.h5")
    for mine, theirs in zip(trained.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
