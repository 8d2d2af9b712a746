"""Heads at another place: labelled rows help, balances follow Bayes' rule, and what was used is remembered."""

import json

import numpy as np
import pytest
from commands import featurestore
from feature_files import write_features
from tasks_asked import asked_file

from featurestore.errors import HeadError
from heads import adapt, evaluate, fit_head, load_features, load_head

NAMES = ["healthy", "ill"]


def place(path, rows, share, shift=0.0, first=0, splits="test", names=NAMES):
    """Rows of two classes; at another place all features are higher by a shift, and another share is ill."""
    rng = np.random.default_rng(first + rows)
    y = (rng.random(rows) < share).astype(np.intp)
    X = (rng.normal(size=(rows, 6)) + 0.9 * y[:, None] + shift).astype(np.float32)
    return write_features(path, X, y, np.resize(splits, rows), class_names=names, first=first)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("places")
    place(work / "here.h5", 800, 0.5, splits=["train", "train", "train", "validation"])
    fit_head(work / "here.h5", out=work / "head")
    return work


def test_a_few_labelled_rows_of_another_place(work, tmp_path):
    file = place(tmp_path / "there.h5", 1000, 0.5, shift=0.7, first=5000)
    before = evaluate(work / "head", file)
    found = adapt(work / "head", file, rows=60, out=tmp_path / "new")
    assert (found.by, found.rows, found.left, found.path) == ("labels", 60, 940, str(tmp_path / "new"))
    assert found.after["log_loss"] < found.before["log_loss"] and found.shift["healthy"] > 0
    after = evaluate(tmp_path / "new", file)
    assert after.rows == 940 and after.left_out == 60 and after.seen is None
    assert after.accuracy > before.accuracy + 0.03 and after.log_loss < before.log_loss - 0.1
    assert after.roc_auc == pytest.approx(before.roc_auc, abs=0.02)  # rows are ranked as before
    sets = evaluate(tmp_path / "new", file, level=0.9)
    assert sets.coverage > 0.84 and 1 <= sets.set_size < 2
    assert evaluate(work / "head", file).rows == 1000  # the old head is as it was
    assert "head" not in found.to_dict() and json.dumps(found.to_dict())


def test_labels_give_what_all_other_rows_say(work, tmp_path):
    """Figures of labelled rows are of shifts that were fitted to others: on noise they promise nothing."""
    rng = np.random.default_rng(0)
    file = tmp_path / "noise.h5"
    write_features(
        file, rng.normal(size=(80, 6)), rng.integers(2, size=80), ["test"] * 80, class_names=NAMES, first=9000
    )
    found = adapt(work / "head", file)
    assert found.left == 0 and found.after["log_loss"] > 0.66
    fresh = rng.normal(size=(2000, 6)).astype(np.float32)
    assert (
        np.abs(found.head.predict_proba(fresh)[:, 1] - 0.5).mean()
        < np.abs(load_head(work / "head").predict_proba(fresh)[:, 1] - 0.5).mean()
    )


@pytest.mark.parametrize("by", ["balanced_accuracy", "f1", 0.3])
def test_a_threshold_of_the_new_place(work, tmp_path, by):
    file = place(tmp_path / "there.h5", 900, 0.1, first=5000)
    found = adapt(work / "head", file, rows=300, threshold=by, out=tmp_path / "new")
    assert found.threshold == load_head(tmp_path / "new").threshold and 0 < found.threshold < 0.5
    plain = adapt(work / "head", file, rows=300, out=tmp_path / "plain")
    assert plain.threshold is None
    assert evaluate(tmp_path / "new", file).balanced_accuracy > evaluate(tmp_path / "plain", file).balanced_accuracy


def test_the_threshold_of_the_old_place_is_left_out_with_a_note(work, tmp_path):
    fit_head(work / "here.h5", out=tmp_path / "parted", threshold=0.2)
    file = place(tmp_path / "there.h5", 100, 0.5, first=5000)
    found = adapt(tmp_path / "parted", file)
    assert found.threshold is None and found.head.threshold is None
    assert any("the threshold of 0.2 was one of the old place" in note for note in found.notes)


@pytest.mark.parametrize("prior", ["ill=0.1", ["healthy=0.9", "ill=0.1"], {"ill": 0.1}, "healthy=0.9,ill=0.1"])
def test_a_stated_balance_is_bayes_rule(work, prior):
    fitted, X = load_head(work / "head"), np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    found = adapt(fitted, prior=prior)
    assert found.by == "stated" and found.temperature == 1 and found.balance == {"healthy": 0.9, "ill": 0.1}
    share = found.balance_before["ill"]
    odds = lambda proba: proba[:, 1] / proba[:, 0]  # noqa: E731
    expected = odds(fitted.predict_proba(X)) * (0.1 / 0.9) / (share / (1 - share))
    np.testing.assert_allclose(odds(found.head.predict_proba(X)), expected, rtol=1e-4)
    with pytest.raises(HeadError, match=r"--level 0\.9 takes rows that were held out"):
        found.head.bound(0.9)


def test_a_balance_is_estimated_from_rows_whose_labels_are_not_read(work, tmp_path):
    file = place(tmp_path / "there.h5", 3000, 0.1, first=5000)
    found = adapt(work / "head", file, prior="estimate", out=tmp_path / "new")
    assert found.balance["ill"] == pytest.approx(0.1, abs=0.08)
    assert evaluate(tmp_path / "new", file).log_loss < evaluate(work / "head", file).log_loss
    X = load_features(file).X
    blind = write_features(tmp_path / "blind.h5", X, [0] * 3000, ["test"] * 3000, class_names=NAMES, first=5000)
    assert adapt(work / "head", blind, prior="estimate").balance == found.balance
    assert any("takes for granted that images look as before" in note for note in found.notes)


def test_a_balanced_fit_stands_for_even_classes(tmp_path):
    file = place(tmp_path / "here.h5", 2000, 0.1, splits=["train", "train", "test"])
    balanced, plain = (fit_head(file, params={"class_weight": weight}) for weight in ("balanced", "none"))
    found = adapt(balanced, prior="ill=0.1")
    assert found.balance_before == {"healthy": 0.5, "ill": 0.5}
    X, _ = load_features(file).select("test")
    assert found.head.predict_proba(X)[:, 1].mean() == pytest.approx(plain.predict_proba(X)[:, 1].mean(), abs=0.03)


def test_classes_that_no_labelled_row_has_are_named(digits_file, tmp_path, digits):
    X, y = digits
    fit_head(digits_file, out=tmp_path / "head")
    some = y < 9
    names = [f"digit {i}" for i in range(9)]
    file = write_features(
        tmp_path / "nine.h5", X[some] * 1.0, y[some], ["test"] * some.sum(), class_names=names, first=900
    )
    found = adapt(tmp_path / "head", file, rows=100)
    assert any("no labelled row is of digit 9" in note for note in found.notes)
    assert found.shift["digit 9"] == min(found.shift.values())
    few = adapt(tmp_path / "head", file, rows=5)
    assert any("5 labelled rows say little" in note for note in few.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prior": "ill=x"}, "--prior ill=x: give a share above 0 and below 1"),
        ({"prior": "sick=0.1"}, "--prior sick: .*or write estimate"),
        ({"prior": ["healthy=0.9", "ill=0.5"]}, "the shares add up to 1.4, not 1"),
        ({"prior": "ill=0.1", "threshold": "f1"}, "--threshold f1 is chosen on labelled rows"),
        ({}, "give a feature file of the other place, or its class balance"),
        ({"prior": "estimate"}, "give a feature file of the other place"),
    ],
)
def test_balances_that_are_none(work, options, words):
    with pytest.raises(HeadError, match=words):
        adapt(work / "head", **options)


def test_rows_that_cannot_be_had(work, tmp_path):
    file = place(tmp_path / "there.h5", 50, 0.5, first=5000)
    for options, words in [
        ({"rows": 51}, "--rows 51: there are 50 test rows"),
        ({"rows": 0}, "--rows 0: give 1 or more"),
        ({"split": "validation"}, "no rows of split 'validation' that the head was not fitted to: .*test"),
    ]:
        with pytest.raises(HeadError, match=words):
            adapt(work / "head", file, **options)
    with pytest.raises(HeadError, match="that the head was not fitted to"):
        adapt(work / "head", work / "here.h5", "train")
    other = place(tmp_path / "other.h5", 50, 0.5, first=5000, names=["healthy", "dead"])
    with pytest.raises(HeadError, match="does not know class 'dead'"):
        adapt(work / "head", other)
    number = fit_head(asked_file(tmp_path, "regression"), "ridge")
    with pytest.raises(HeadError, match="asks for a number of each image"):
        adapt(number, prior="ill=0.1")
    again = adapt(adapt(work / "head", prior="ill=0.1").head, file)
    assert again.by == "labels"
    with pytest.raises(HeadError, match="does not know the class balance"):
        adapt(adapt(work / "head", prior="ill=0.1").head, prior="ill=0.5")


def test_the_command(work, tmp_path):
    file = place(tmp_path / "there.h5", 200, 0.5, shift=0.7, first=5000)
    done = featurestore("adapt", str(work / "head"), str(file), "--rows", "50", "--out", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert "on the 50 labelled rows, each held out in turn: accuracy" in done.stdout
    assert "150 test rows were not used" in done.stdout
    done = featurestore("adapt", str(work / "head"), "--prior", "ill=0.2", "--out", str(tmp_path / "b"), "--json")
    assert json.loads(done.stdout)["balance"] == {"healthy": 0.8, "ill": 0.2}
    done = featurestore("adapt", str(work / "head"), "--prior", "ill=2", "--out", str(tmp_path / "c"))
    assert done.returncode == 1 and done.stderr.startswith("error: --prior ill=2") and not (tmp_path / "c").exists()
