"""Backbone and head as one model: it says what both say one after the other."""

import numpy as np
import pytest

from featurestore.backbones import load_backbone
from featurestore.spec import Tap
from heads.finetuning.network import BACKBONE_SHARE, Joined, Trunk
from heads.kinds.design import HeadDesign

SIZE = 32


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)


def joined(backbone, kind, pixels, unfreeze, *, cached=None, seed=0, **params):
    """A head fitted on the features of random pixels and joined with their backbone; and those features."""
    (tap,) = backbone.taps
    features = np.asarray(backbone.model.predict(pixels, verbose=0)[tap.layer], np.float32)
    features = features.reshape(len(features), -1)
    y = np.arange(len(pixels)) % 3
    head = HeadDesign(kind, params).build().fit(features, y)
    trunk = Trunk.of(backbone, tap, unfreeze)
    encoder = trunk.encoder(cached)
    return Joined.of(trunk, encoder, head, features[:16], seed), trunk, head, features


@pytest.mark.parametrize(
    ("kind", "pool", "unfreeze", "params"),
    [
        ("logreg", "avg", "all", {}),
        ("linear-svm", "flatten", "block3_conv", {}),
        ("lda", "avg+max", "last-block", {}),
        ("dense", "none", "1", {"hidden": (8, 4), "batch_norm": True, "epochs": 2}),
    ],
)
def test_the_joined_model_starts_where_backbone_and_head_are(pixels, kind, pool, unfreeze, params):
    backbone = load_backbone("small_cnn", weights="random", size=SIZE, pool=pool)
    model, _, head, features = joined(backbone, kind, pixels, unfreeze, **params)
    expected = head.scores(features) / head.temperature_
    np.testing.assert_allclose(model.model.predict(pixels, verbose=0), expected, rtol=1e-3, atol=1e-3)
    again = model.head()
    np.testing.assert_allclose(again.scores(features), expected, rtol=1e-3, atol=1e-3)
    assert head.temperature_ != 1.0 or kind not in ("linear-svm",)  # the original is left as it was


def test_only_what_is_unfrozen_moves_and_batch_normalization_stays_in_inference_mode(pixels):
    backbone = load_backbone("small_cnn", weights="random", size=SIZE)
    model, trunk, _, _ = joined(backbone, "logreg", pixels, "block3_conv")
    before = {v.path: np.array(v.numpy()) for v in trunk.whole.variables}
    model.compile(1e-2, 10, scratch=False)
    model.model.fit(pixels, np.arange(len(pixels)) % 3, epochs=2, verbose=0)
    moved = {v.path for v in trunk.whole.variables if (before[v.path] != v.numpy()).any()}
    assert moved == {"block3_conv/kernel", "block4_conv/kernel"}
    assert not {id(v) for v in model.variables} & {id(v) for v in trunk.bottom.variables}


def test_from_scratch_batch_normalization_learns(pixels):
    backbone = load_backbone("small_cnn", weights="random", size=SIZE)
    trunk = Trunk.of(backbone, Tap(), "all", scratch=True)
    assert {v.path for v in trunk.top.trainable_variables} >= {"block1_bn/gamma", "block1_conv/kernel"}
    assert trunk.boundary is None and trunk.bottom is None


def test_the_backbone_moves_in_smaller_steps_than_the_head(pixels):
    """Adam's first step is the learning rate for every weight, whatever the size of its gradient."""
    backbone = load_backbone("small_cnn", weights="random", size=SIZE)
    model, trunk, _, _ = joined(backbone, "logreg", pixels, "last-block")
    watched = [model.dense[0].kernel, trunk.top.trainable_variables[0]]
    before = [np.array(v.numpy()) for v in watched]
    model.compile(1e-2, 1, scratch=False)
    model.model.fit(pixels, np.arange(len(pixels)) % 3, batch_size=len(pixels), verbose=0)
    steps = [np.median(np.abs(v.numpy() - old)) for v, old in zip(watched, before, strict=True)]
    assert steps == pytest.approx([1e-2, 1e-2 * BACKBONE_SHARE], rel=0.05)


def test_memory_grows_with_what_is_trained_and_with_the_batch(pixels):
    backbone = load_backbone("small_cnn", weights="random", size=SIZE)
    top, whole = (Trunk.of(backbone, Tap(), what) for what in ("last-block", "all"))
    assert top.memory(8, True) < top.memory(8, False) < whole.memory(8, False) < whole.memory(16, False)
