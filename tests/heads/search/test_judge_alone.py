"""A kind for which nobody has written a judge, from a sweep to an evaluation."""

import time

import numpy as np
import own_kind
import pytest
from divisions import alone, divided_rows

from featurestore.errors import HeadError
from heads import evaluate, fit_head, load_features, load_head
from heads.kinds import design
from heads.kinds.design import HeadDesign
from heads.search.judge_alone import judge_alone
from heads.search.judges import batches
from heads.search.judging import Judging
from heads.search.space import expand, load_space
from heads.search.sweep import sweep


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The one line that adds the kind."""
    monkeypatch.setitem(design.KINDS, "bayes", "own_kind:BayesHead")


def test_a_new_kind_is_swept_refitted_saved_loaded_and_evaluated(digits_file, tmp_path):
    assert sum(each.kind == "bayes" for each in expand(load_space("quick"), 0)) == 2
    space = tmp_path / "space.toml"
    space.write_text(
        "[[heads]]\nkind = 'bayes'\nsmoothing = [0.3, 0.1, 1e-3]\nstandardize = [true, false]\n"
        "[[heads]]\nkind = 'centroid'\n"
    )
    found = sweep(digits_file, tmp_path / "run", space=space, cv=3, ensemble=2, progress=False)
    assert [trial.design.kind for trial in found.trials].count("bayes") == 6
    assert found.winner.design.kind == "bayes" and found.winner.mean > 0.85
    assert found.winner.size == 2 * 10 * 64 + 10
    assert evaluate(found.head, digits_file).accuracy > 0.8
    fitted = fit_head(digits_file, "bayes", params=found.winner.design.params, out=tmp_path / "head")
    X = load_features(digits_file).X
    np.testing.assert_array_equal(load_head(tmp_path / "head").predict_proba(X), fitted.predict_proba(X))
    again = sweep(digits_file, tmp_path / "run", space=space, cv=3, ensemble=2, progress=False)
    assert again.trials == found.trials


def test_a_design_that_cannot_be_fitted_leaves_the_others(digits_file, tmp_path):
    space = tmp_path / "space.toml"
    space.write_text("[[heads]]\nkind = 'bayes'\nsmoothing = [0.0, 0.1]\n")
    found = sweep(digits_file, tmp_path / "run", space=space, cv=3, progress=False)
    assert [bool(trial.scores) for trial in found.trials] == [True, False]
    assert found.trials[1].stopped == "error: a column without variance: give smoothing above 0"
    space.write_text("[[heads]]\nkind = 'bayes'\nsmoothing = 0.0\n")
    with pytest.raises(HeadError, match="could be fitted"):
        sweep(digits_file, tmp_path / "none", space=space, cv=3, progress=False)


@pytest.mark.parametrize(("kind", "views"), [("bayes", False), ("bayes", True), ("lda", True)])
def test_scores_are_those_of_heads_fitted_fold_by_fold(digits, kind, views):
    division, found, alive = divided_rows(digits, views=views), {}, []
    designs = [HeadDesign(kind), HeadDesign(kind, {"standardize": False})]
    judge_alone(designs, Judging(division, 1, found.__setitem__, alive=lambda: alive.append(1)))
    assert len(alive) == 2 * division.folds
    for i, each in enumerate(designs):
        np.testing.assert_allclose(found[i].scores, alone(each, division), rtol=1e-3, atol=1e-3)
        assert found[i].seconds > 0
    judge_alone(designs, Judging(division, 1, lambda i, _: pytest.fail(str(i)), deadline=time.monotonic()))


def test_a_family_without_a_judge_is_named_with_those_that_have_one(monkeypatch):
    monkeypatch.setattr(own_kind.BayesHead, "family", "bayesian")
    with pytest.raises(HeadError, match=r"'bayesian', which no judge takes: known: discriminant, linear, .*alone"):
        list(batches([HeadDesign("bayes")]))


def test_what_is_known_is_judged_again_only_where_others_depend_on_it():
    designs = [HeadDesign("logreg"), HeadDesign("logreg", {"C": 1.0}), HeadDesign("lda"), HeadDesign("centroid")]
    known = {designs[0], designs[2]}
    assert [batch for _, batch in batches(designs, known)] == [designs[3:], designs[:2]]
    assert not list(batches(designs, designs))
