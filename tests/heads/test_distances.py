"""Support vector machines judged together against the same heads fitted one by one."""

import time

import numpy as np
import pytest

from featurestore.errors import HeadError
from heads.designs import HeadDesign
from heads.distances import judge_kernel
from heads.division import Division

DESIGNS = [
    HeadDesign("svm", {"C": C, "gamma": gamma, "standardize": standardize})
    for standardize in (False, True)
    for gamma in ("scale", 0.02)
    for C in (0.1, 100, 3)
]


def divided(digits, classes=10, folds=5, views=False):
    """A division of some rows, views among them: every fifth plain row held out, or all in five folds."""
    X, y = digits
    keep = np.flatnonzero(y < classes)[:300]
    X, y = X[keep], y[keep]
    fold = np.arange(len(y)) % 5
    if folds == 1:
        fold = np.where(fold == 0, 0, -1)
    image, plain, weights = np.arange(len(y)), np.ones(len(y), bool), None
    if views:
        owners = np.arange(0, len(y), 2)
        noise = np.random.default_rng(0).normal(0, 1, (len(owners), X.shape[1]))
        image = np.concatenate([owners, image])
        order = np.random.default_rng(1).permutation(len(image))
        plain = (np.arange(len(image)) >= len(owners))[order]
        X, image = np.concatenate([X[owners] + noise, X]).astype(np.float32)[order], image[order]
        y, fold, weights = y[image], fold[image], 1 / np.bincount(image)[image]
    return Division(X, y, fold, image, plain, weights)


def alone(design, division):
    """Scores of the head fitted by itself on each fold, as a user would."""
    head = design.build(seed=1)
    scores = np.empty((len(division.judged), division.classes))
    for fold in range(division.folds):
        rows = division.training_rows(fold)
        plain, versions = rows[division.plain[rows]], rows[~division.plain[rows]]
        views = None
        if len(versions):
            place = {image: i for i, image in enumerate(division.image[plain])}
            owners = [place[image] for image in division.image[versions]]
            views = division.X[versions], owners
        head.fit(division.X[plain], division.codes[plain], views=views)
        held = division.held(fold)
        scores[np.searchsorted(division.judged, held)] = head.decision_function(division.X[held])
    return scores


def check_close(scores, expected, message=""):
    """Equal to the solver's precision; a vote between two classes that is nearly a draw may go the other way."""
    drawn = np.abs(scores - expected).max(axis=1) > 1e-3
    assert drawn.mean() <= 0.01, message


def judged(designs, division, **options):
    found = {}
    judge_kernel(designs, division, seed=1, report=found.__setitem__, **options)
    return found


@pytest.mark.parametrize(
    ("classes", "folds", "views"),
    [(10, 5, False), (10, 1, True), (2, 5, True), (2, 1, False)],
)
def test_answers_are_those_of_the_heads_alone(digits, classes, folds, views):
    division = divided(digits, classes, folds, views)
    found = judged(DESIGNS, division)
    assert sorted(found) == list(range(len(DESIGNS)))
    wrong = 0
    for i, design in enumerate(DESIGNS):
        expected, scores = alone(design, division), found[i].scores
        assert scores.dtype == np.float32
        check_close(scores, expected, design.to_json())
        wrong += (scores.argmax(axis=1) != expected.argmax(axis=1)).sum()
    assert wrong <= 0.001 * len(DESIGNS) * len(division.judged)


def test_order_and_company_of_designs_and_memory_change_nothing(digits):
    division = divided(digits, folds=1)
    together = judged(DESIGNS, division)
    backwards = judged(DESIGNS[::-1], division, max_memory=20 * len(division.X) ** 2)  # one task at a time
    for i in range(len(DESIGNS)):
        check_close(together[i].scores, backwards[len(DESIGNS) - 1 - i].scores)
        check_close(together[i].scores, judged([DESIGNS[i]], division)[0].scores)


def test_each_design_is_reported_once_with_its_time(digits):
    reports = []
    judge_kernel(DESIGNS, divided(digits), seed=0, report=lambda i, result: reports.append((i, result)))
    assert sorted(i for i, _ in reports) == list(range(len(DESIGNS)))
    for _, result in reports:
        assert result.seconds > 0
        assert result.stopped == "converged"


def test_nothing_is_begun_after_the_deadline(digits):
    assert not judged(DESIGNS, divided(digits), deadline=time.monotonic())


def test_a_deadline_on_the_way_keeps_what_is_complete(digits):
    division, found = divided(digits), {}
    raw, scaled = HeadDesign("svm"), HeadDesign("svm", {"standardize": True})  # in this order, whatever is asked for
    first = judged([raw], division)[0]

    def report(i, result):
        found[i] = result
        time.sleep(max(0.0, deadline - time.monotonic()))

    deadline = time.monotonic() + 3
    judge_kernel([scaled, raw], division, seed=0, report=report, deadline=deadline)
    assert list(found) == [1]
    np.testing.assert_array_equal(found[1].scores, first.scores)


def test_more_rows_than_memory(digits):
    message = "300 rows: their kernel takes 1.8 MB, but 1 MB may be used: give --max-memory 2MB, or fewer rows"
    with pytest.raises(HeadError, match=message):
        judged(DESIGNS, divided(digits), max_memory=1_000_000)
