"""An adapted head says what the formula says, of each kind, saved and loaded, and again."""

import json

import numpy as np
import pytest

from featurestore.errors import ExportError, HeadError
from heads import fit_head, load_features, load_head, sweep
from heads.exporting.joined_model import nets_of
from heads.kinds.design import HeadDesign
from heads.solvers.recalibration import Shift
from heads.storage.saved_head import save_head

OFFSET = np.array([0.7, -0.2, -0.5, 0, 0, 0, 0, 0, 0, 0])
FOLDED = ("logreg", "linear-svm", "ridge", "lda", "centroid", "dense")


def adapted(fitted, scale, offset):
    from dataclasses import replace

    return replace(fitted, head=fitted.head.adapted(scale, offset))


@pytest.mark.parametrize("kind", [*FOLDED, "svm", "knn"])
def test_each_kind_is_shifted_and_saved(kind, digits_file, tmp_path):
    fitted, (X, _) = fit_head(digits_file, kind), load_features(digits_file).select("test")
    scale = 1.0 if fitted.head.scores_are_probabilities else 0.7
    before = fitted.predict_proba(X)
    expected = Shift(scale, OFFSET).of(before)
    made = save_head(tmp_path / "head", adapted(fitted, scale, OFFSET))
    np.testing.assert_allclose(made.predict_proba(X), expected, atol=3e-5)
    np.testing.assert_array_equal(fitted.predict_proba(X), before)  # the original is as it was
    loaded = load_head(tmp_path / "head")
    np.testing.assert_allclose(loaded.predict_proba(X), made.predict_proba(X), atol=1e-12)
    best = loaded.predict_proba(X).argmax(axis=1)
    np.testing.assert_array_equal(loaded.predict(X), loaded.classes_[best])
    document = json.loads((tmp_path / "head" / "head.json").read_text())
    assert ("offset" in document) == (kind not in FOLDED)
    assert document["format_version"] == (1 if kind in FOLDED else 5)
    again = adapted(loaded, scale, OFFSET)
    np.testing.assert_allclose(again.predict_proba(X), Shift(scale, OFFSET).of(expected), atol=1e-4)


def test_an_ensemble_keeps_an_offset_and_is_no_network_then(digits_file, tmp_path):
    (tmp_path / "space.toml").write_text('[[heads]]\nkind = "logreg"\nC = [0.01, 0.1]\n')
    found = sweep(digits_file, tmp_path / "run", space=tmp_path / "space.toml", ensemble=2, progress=False)
    fitted, (X, _) = load_head(found.head), load_features(digits_file).select("test")
    made = save_head(tmp_path / "head", adapted(fitted, 0.8, OFFSET))
    np.testing.assert_allclose(
        load_head(made.path).predict_proba(X), Shift(0.8, OFFSET).of(fitted.predict_proba(X)), atol=1e-5
    )
    assert len(nets_of(fitted)) == 2
    with pytest.raises(ExportError, match=r"was adapted, and .* has no bias of its own"):
        nets_of(made)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offset": [0.0] * 9}, "an offset that is not one of each class"),
        ({"offset": None}, "offset"),
        ({"offset": [2e3] * 10}, "offset"),
        ({"format_version": 1}, "version 1 with 0 numeric columns, an offset"),
    ],
)
def test_an_offset_that_does_not_fit_is_refused(digits_file, tmp_path, change, words):
    save_head(tmp_path / "head", adapted(fit_head(digits_file, "knn"), 1.0, OFFSET))
    file = tmp_path / "head" / "head.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(HeadError, match=words):
        load_head(tmp_path / "head")


@pytest.mark.parametrize(
    ("kind", "params", "even"),
    [("logreg", {}, False), ("logreg", {"class_weight": "balanced"}, True), ("centroid", {}, True), ("lda", {}, False)],
)
def test_which_fits_take_classes_as_equally_frequent(kind, params, even):
    assert HeadDesign.parse(kind, params).build().evens_classes == even
