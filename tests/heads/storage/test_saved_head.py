import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skops.io
from feature_files import SPEC, write_features
from safetensors.numpy import load_file, save_file
from sklearn.naive_bayes import GaussianNB

from featurestore.errors import FeatureStoreError, HeadError, SpecMismatchError, WriteError
from heads import evaluate, fit_head, load_features, load_head
from heads.kinds.design import KINDS
from heads.reporting.run_folder import open_run
from heads.storage.saved_head import save_head

QUICK = {"dense": {"epochs": 2, "hidden": "16,8", "batch_norm": "true"}}


@pytest.fixture(scope="module")
def fitted(digits_file):
    """One fitted head of each kind, not saved."""
    return {kind: fit_head(digits_file, kind, params=QUICK.get(kind, {}), seed=1) for kind in KINDS}


@pytest.fixture
def saved(fitted, tmp_path):
    """Function: folder of a newly saved head of a kind."""
    return lambda kind: save_head(tmp_path / kind, fitted[kind]).path


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_head_gives_the_same_probabilities_bit_for_bit(fitted, saved, digits, kind):
    X, _ = digits
    folder = saved(kind)
    loaded = load_head(folder)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted[kind].predict_proba(X))
    assert loaded.to_dict() == {**fitted[kind].to_dict(), "path": str(folder)}
    assert loaded.design == fitted[kind].design
    assert list(folder.parent.iterdir()) == [folder]


def test_a_head_on_two_inputs(digits, tmp_path):
    X, y = digits
    names, other = [f"digit {i}" for i in range(10)], replace(SPEC, backbone="edges")
    splits = np.resize(["train", "train", "test"], 600)
    for name, spec in {"one": SPEC, "two": other}.items():
        write_features(tmp_path / f"{name}.h5", X[:, :: len(name)], y, splits, class_names=names, spec=spec)
    fitted = fit_head(tmp_path, tap="edges+pixels", out=tmp_path / "head")
    loaded = load_head(tmp_path / "head")
    assert loaded.inputs == fitted.inputs and [item.spec for item in loaded.inputs] == [other, SPEC]
    table = load_features(tmp_path, "edges+pixels")
    loaded.check_features(table)
    assert evaluate(tmp_path / "head", tmp_path).accuracy == loaded.head.score(*table.select("test")) > 0.8
    with pytest.raises(SpecMismatchError, match=r"one\.h5: .*backbone: pixels here, edges there"):
        loaded.check_features(load_features(tmp_path, "pixels+edges"))
    with pytest.raises(SpecMismatchError, match=r"taps last and last\+last"):
        loaded.check_features(load_features(tmp_path / "one.h5"))
    with pytest.raises(SpecMismatchError, match=r"one\.h5: .*backbone: pixels here, edges there"):
        evaluate(tmp_path / "head", tmp_path / "one.h5")


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_on_views_survives(kind, digits, tmp_path):
    X, y = digits
    names, splits = [str(i) for i in range(10)], np.resize(["test", "train"], 600)
    rows = np.arange(1, 600, 2)
    file = write_features(tmp_path / "a.h5", X, y, splits, class_names=names, views=X[rows] + 1, view_rows=rows)
    fitted = fit_head(file, kind, params=QUICK.get(kind, {}), out=tmp_path / "head")
    loaded = load_head(tmp_path / "head")
    assert loaded.views == 300 and fit_head(file, kind, params=QUICK.get(kind, {}), views=False).views == 0
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    if kind == "knn":  # a row is its own nearest neighbour
        assert loaded.metrics == {}
    else:
        assert loaded.metrics["train"]["accuracy"] == loaded.head.score(X[rows], y[rows])


def test_two_classes_and_a_missing_class_survive(gap_file, tmp_path, digits):
    X, _ = digits
    for kind in ("logreg", "svm"):
        before = fit_head(gap_file, kind, out=tmp_path / kind)
        np.testing.assert_array_equal(load_head(tmp_path / kind).predict_proba(X), before.predict_proba(X))


def test_a_saved_head_is_replaced_whatever_its_kind(fitted, tmp_path):
    for kind in ("svm", "logreg", "knn"):
        save_head(tmp_path / "head", fitted[kind])
        assert load_head(tmp_path / "head").design.kind == kind
        assert len(list((tmp_path / "head").iterdir())) == 3


@pytest.mark.parametrize("moment", range(4))
def test_a_crash_while_replacing_leaves_one_of_the_two(fitted, tmp_path, monkeypatch, moment):
    """As if killed before the n-th removal or renaming of the second save."""
    folder = save_head(tmp_path / "head", fitted["logreg"]).path
    calls = 0

    class KilledError(BaseException):
        pass

    def guarded(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > moment:
                raise KilledError
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", guarded(os.rename))
        patch.setattr("shutil.rmtree", guarded(shutil.rmtree))
        with pytest.raises(KilledError):
            save_head(folder, fitted["knn"])
    assert load_head(folder).design.kind in ("logreg", "knn")
    save_head(folder, fitted["svm"])
    assert load_head(folder).design.kind == "svm"


def test_other_things_are_never_overwritten(fitted, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    folder = save_head(tmp_path / "head", fitted["logreg"]).path
    (folder / "thesis.txt").write_text("years of work")
    for name in ("notes", "file", "head"):
        with pytest.raises(HeadError, match="name another folder"):
            save_head(tmp_path / name, fitted["logreg"])
    (tmp_path / "empty").mkdir()
    assert save_head(tmp_path / "empty", fitted["logreg"]).path == tmp_path / "empty"


def test_a_folder_that_cannot_be_written(fitted, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written"):
        save_head(tmp_path / "file" / "head", fitted["logreg"])


def change(folder, **values):
    path = folder / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "values",
    [
        {"format": "other"},
        {"format_version": 2},
        {"kind": "forest"},
        {"params": {"C": "much"}},
        {"class_names": ["digit 0"]},
        {"class_names": ["same"] * 10},
        {"classes": [0]},
        {"classes": [1, 0, *range(2, 10)]},
        {"classes": [*range(9)]},
        {"classes": [*range(9), 10]},
        {"classes": [-1, *range(1, 10)]},
        {"classes": {"0": 1}},
        {"width": 63},
        {"width": 10**30},
        {"temperature": 0},
        {"temperature": "warm"},
        {"inputs": [{}]},
        {"inputs": [{"spec": SPEC.to_dict(), "fingerprint": "0" * 64, "tap": "last", "weights": "random"}]},
        {"inputs": [{"spec": SPEC.to_dict(), "fingerprint": SPEC.fingerprint, "tap": "lost", "weights": "random"}]},
        {"seed": None},
        {"metrics": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_altered_json_is_refused(saved, kind, values):
    folder = saved(kind)
    change(folder, **values)
    with pytest.raises(HeadError, match=f"{folder.name}/"):
        load_head(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 100_000, "\xff"])
def test_json_that_is_none(saved, text):
    folder = saved("logreg")
    (folder / "head.json").write_text(text, encoding="latin-1")
    with pytest.raises(HeadError, match=r"head\.json"):
        load_head(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_truncated_files(saved, fitted, kind):
    name = fitted[kind].head.weights_file
    folder = saved(kind)
    data = (folder / name).read_bytes()
    for length in (0, 7, len(data) // 2, len(data) - 1):
        (folder / name).write_bytes(data[:length])
        with pytest.raises(HeadError, match=name):
            load_head(folder)
    (folder / name).unlink()
    with pytest.raises(HeadError, match=f"{name}: no such file"):
        load_head(folder)
    with pytest.raises(HeadError, match="give the folder of a saved head"):
        load_head(folder.parent)


@pytest.mark.parametrize(
    "alter",
    [
        lambda coef: coef.astype(np.float64),
        lambda coef: coef[:-1],
        lambda coef: coef.T.copy(),
        lambda coef: coef * np.float32(np.nan),
    ],
)
def test_weights_of_another_shape_or_type(saved, alter):
    folder = saved("logreg")
    state = load_file(folder / "weights.safetensors")
    save_file({**state, "coef": alter(state["coef"])}, folder / "weights.safetensors")
    with pytest.raises(HeadError, match="coef is"):
        load_head(folder)


def test_a_model_of_a_foreign_type(saved):
    """Types that skops itself trusts, and one that runs code, are refused by name, before anything is built."""
    folder = saved("svm")
    for model, name in ((GaussianNB(), "GaussianNB"), (os.system, "system"), (np.random.default_rng(0), "Generator")):
        skops.io.dump({"model": model}, folder / "model.skops")
        with pytest.raises(HeadError, match=name):
            load_head(folder)


def altered(folder, **attributes):
    state = skops.io.load(folder / "model.skops")
    for name, value in attributes.items():
        setattr(state["model"], name, value)
    skops.io.dump(state, folder / "model.skops")


@pytest.mark.parametrize(
    "attributes",
    [
        {"support_vectors_": np.zeros((1, 64))},
        {"_dual_coef_": np.zeros((9, 1))},
        {"_intercept_": np.zeros(1)},
        {"_n_support": np.full(10, 10**6, np.int32)},
        {"_n_support": np.array([-1, 1], np.int32)},
        {"support_": np.zeros(1, np.int32)},
        {"classes_": np.arange(11)},
        {"kernel": "precomputed"},
        {"_sparse": True},
    ],
    ids=str,
)
def test_an_svm_whose_parts_do_not_fit_never_reaches_compiled_code(saved, attributes):
    folder = saved("svm")
    altered(folder, **attributes)
    with pytest.raises(HeadError, match=r"model\.skops"):
        load_head(folder)


@pytest.mark.parametrize(
    "attributes",
    [
        {"_fit_X": np.zeros((3, 64), np.float32)},
        {"_fit_X": np.zeros((360, 63), np.float32)},
        {"_y": np.full(360, 10)},
        {"_y": np.full(360, -1)},
        {"_y": np.zeros(360)},
        {"n_neighbors": 10**6},
        {"metric": "euclidean"},
    ],
    ids=str,
)
def test_a_knn_whose_parts_do_not_fit(saved, attributes):
    folder = saved("knn")
    altered(folder, **attributes)
    with pytest.raises(HeadError, match=r"model\.skops"):
        load_head(folder)


def test_a_model_file_that_swells(saved):
    folder = saved("knn")
    with zipfile.ZipFile(folder / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", " " * 10_000_000)
    with pytest.raises(HeadError, match="compressed"):
        load_head(folder)


def test_errors_are_of_the_one_tree():
    assert issubclass(HeadError, FeatureStoreError)


SAVED = Path(__file__).parent / "saved_0_1"
"""What version 0.1 of 26 November 2026 saved: two heads, and a sweep."""


@pytest.mark.parametrize("name", ["linear-svm", "dense", "run/winner"])
def test_heads_of_an_earlier_version_say_what_they_said(name, tmp_path):
    expected = np.load(SAVED / "expected.npz")
    head = load_head(SAVED / name)
    np.testing.assert_allclose(head.predict_proba(expected["rows"]), expected[name], atol=1e-6)
    assert head.record is None
    again = load_head(save_head(tmp_path / "again", head).path)
    np.testing.assert_array_equal(again.predict_proba(expected["rows"]), head.predict_proba(expected["rows"]))


def test_a_sweep_of_an_earlier_version_can_be_opened():
    run = open_run(SAVED / "run")
    assert [trial.design.kind for trial in run.trials] == ["lda", "centroid", "knn", "knn"]
    assert run.winner.design.kind == "lda" and run.measured.rows == 30 and not run.winner.cut


def test_a_loaded_head_answers_in_names_of_classes(gap_file, tmp_path):
    """Class "one" has no training rows: it has a name and a column, but no head says it."""
    head = load_head(fit_head(gap_file, out=tmp_path / "head").path)
    X, y = load_features(gap_file).select("validation")
    assert head.classes_.tolist() == ["zero", "one", "two"] and head.n_features_in_ == 64
    names = head.predict(X)
    assert names.dtype.kind == "U" and set(names) == {"zero", "two"}
    np.testing.assert_array_equal(names, head.classes_[head.predict_proba(X).argmax(axis=1)])
    scores = head.decision_function(X)
    assert scores.shape == (len(X), 3) and (scores[:, 1] == -np.inf).all() and np.isfinite(scores[:, ::2]).all()
    assert head.score(X, head.classes_[y]) == (names == head.classes_[y]).mean() > 0.9
    assert head.score(X, names, sample_weight=np.arange(len(X))) == 1
    with pytest.raises(HeadError, match="give their names, such as 'zero'"):
        head.score(X, y)
    with pytest.raises(HeadError, match=r"head: rows of 63 features, but the head takes 64"):
        head.predict(X[:, 1:])


def test_a_loaded_head_of_two_classes_has_one_score(pair_file):
    head = fit_head(pair_file)
    X, _ = load_features(pair_file).select("validation")
    assert head.scores(X).shape == (len(X), 2) and head.decision_function(X).shape == (len(X),)
    np.testing.assert_array_equal(head.predict(X), np.where(head.decision_function(X) > 0, "eight", "three"))


def test_a_head_is_shown_in_a_few_lines(gap_file, tmp_path):
    shown = repr(fit_head(gap_file, params={"C": 1.0}, out=tmp_path / "head")).splitlines()
    assert shown[:3] == ["FittedHead", "  kind       logreg C=1.0", "  classes    3 (zero, one, two)"]
    assert len(shown) < 10 and "accuracy" in shown[-2] and str(tmp_path) in shown[-1]


SAVED_V3 = Path(__file__).parent / "saved_v3"
"""Heads of format version 3, as the first program that knew it saved them: several labels, and a number."""


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_heads_of_version_3_say_what_they_said(task, tmp_path):
    expected, head = np.load(SAVED_V3 / "expected.npz"), load_head(SAVED_V3 / task)
    np.testing.assert_allclose(head.outputs(expected["rows"]), expected[task], rtol=1e-5)
    np.testing.assert_allclose(head.predict(expected["rows"]), expected[f"{task} said"], rtol=1e-5)
    again = load_head(save_head(tmp_path / "again", head).path)
    assert again.to_dict() | {"path": ""} == head.to_dict() | {"path": ""} and head.to_dict()["format_version"] == 3


@pytest.mark.parametrize("found", [[0.5, 0.4], [], [1.5], "x"])
def test_conformity_that_is_damaged_is_refused(digits_file, tmp_path, found):
    fit_head(digits_file, out=tmp_path / "head")
    file = tmp_path / "head" / "head.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"conformity": found}))
    with pytest.raises(HeadError, match="conformity"):
        load_head(tmp_path / "head")


def test_a_head_of_before_sets_and_novelty_is_saved_as_it_was(digits_file, tmp_path):
    fit_head(digits_file, out=tmp_path / "head")
    file = tmp_path / "head" / "head.json"
    values = json.loads(file.read_text())
    values.pop("conformity")
    file.write_text(json.dumps(values, indent=1) + "\n")
    old = load_head(tmp_path / "head")
    assert old.conformity is None and old.novelty is None and old.head.offset_ is None
    save_head(tmp_path / "again", old)
    for each in (tmp_path / "head").iterdir():
        assert each.read_bytes() == (tmp_path / "again" / each.name).read_bytes()
