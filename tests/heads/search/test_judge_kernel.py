"""Support vector machines judged together against the same heads fitted one by one."""

import time

import numpy as np
import pytest
from divisions import alone, check_close, divided_rows

from featurestore.errors import HeadError
from heads.kinds import svm
from heads.kinds.design import HeadDesign
from heads.search.judge_kernel import judge_kernel
from heads.search.judging import Judging
from heads.solvers.nystroem import approximated

DESIGNS = [
    HeadDesign("svm", {"C": C, "gamma": gamma, "standardize": standardize})
    for standardize in (False, True)
    for gamma in ("scale", 0.02)
    for C in (0.1, 100, 3)
]


def judged(designs, division, **options):
    found = {}
    judge_kernel(designs, Judging(division, 1, found.__setitem__, **options))
    return found


@pytest.mark.parametrize(
    ("classes", "folds", "views"),
    [(10, 5, False), (10, 1, True), (2, 5, True), (2, 1, False)],
)
def test_answers_are_those_of_the_heads_alone(digits, classes, folds, views):
    division = divided_rows(digits, classes, folds, views)
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
    division = divided_rows(digits, folds=1)
    together = judged(DESIGNS, division)
    backwards = judged(DESIGNS[::-1], division, max_memory=20 * len(division.X) ** 2)  # one task at a time
    for i in range(len(DESIGNS)):
        check_close(together[i].scores, backwards[len(DESIGNS) - 1 - i].scores)
        check_close(together[i].scores, judged([DESIGNS[i]], division)[0].scores)


def test_each_design_is_reported_once_with_its_time(digits):
    reports = []
    judge_kernel(DESIGNS, Judging(divided_rows(digits), 0, lambda i, result: reports.append((i, result))))
    assert sorted(i for i, _ in reports) == list(range(len(DESIGNS)))
    for _, result in reports:
        assert result.seconds > 0
        assert result.stopped == "converged"


def test_nothing_is_begun_after_the_deadline(digits):
    assert not judged(DESIGNS, divided_rows(digits), deadline=time.monotonic())


def test_a_deadline_on_the_way_keeps_what_is_complete(digits):
    division, found = divided_rows(digits), {}
    raw, scaled = HeadDesign("svm"), HeadDesign("svm", {"standardize": True})  # in this order, whatever is asked for
    first = judged([raw], division)[0]

    def report(i, result):
        found[i] = result
        time.sleep(max(0.0, deadline - time.monotonic()))

    deadline = time.monotonic() + 3
    judge_kernel([scaled, raw], Judging(division, 0, report, deadline=deadline))
    assert list(found) == [1]
    np.testing.assert_array_equal(found[1].scores, first.scores)


def test_more_rows_than_memory(digits):
    message = "300 rows: their kernel takes 1.8 MB, but 1 MB may be used: give --max-memory 2MB, or fewer rows"
    with pytest.raises(HeadError, match=message):
        judged(DESIGNS, divided_rows(digits), max_memory=1_000_000)


@pytest.mark.parametrize(
    ("classes", "folds", "views"),
    [(10, 5, False), (10, 1, True), (2, 5, True)],
)
def test_where_all_rows_are_landmarks_the_answers_are_those_of_the_heads_alone(
    digits, classes, folds, views, monkeypatch
):
    monkeypatch.setattr(svm, "EXACT", 50)
    division = divided_rows(digits, classes, folds, views)
    designs = [HeadDesign("svm", {"C": C, "gamma": 0.0005, "tol": 1e-6}) for C in (0.1, 1)]
    found = judged(designs, division)
    for i, design in enumerate(designs):
        assert "landmarks" in found[i].stopped
        np.testing.assert_allclose(found[i].scores, alone(design, division), atol=0.03)


def test_no_row_that_is_held_out_is_a_landmark(digits):
    division = divided_rows(digits, views=True)
    scaling = division.scaling(division.folds, True)
    for fold, landmarks, features in approximated(division, scaling, "scale", 40, range(6), 0):
        assert 35 <= len(landmarks.rows) <= 40 and features.shape == (len(division.codes), len(landmarks.rows))
        known = scaling.apply(division.X[division.fold == fold])
        assert not (landmarks.rows[:, None] == known).all(axis=2).any()
