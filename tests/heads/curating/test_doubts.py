"""Doubtful labels: those that were made wrong are found, and the counts are those of the paper's definition."""

import numpy as np
from feature_files import write_features
from hypothesis import given
from hypothesis import strategies as st

from heads import load_features
from heads.curating.doubts import confident_joint, label_issues
from heads.curating.question import Question
from heads.search.held_out import designs_of
from heads.solvers.scores import softmax


@given(st.integers(2, 5), st.integers(10, 60), st.integers(0, 1000))
def test_a_row_is_counted_in_the_likeliest_class_whose_threshold_it_reaches(classes, rows, seed):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=rows)])
    proba = softmax(rng.normal(size=(len(y), classes)) * 2)
    threshold = [proba[y == j, j].mean() for j in range(classes)]
    for row, found in zip(proba, confident_joint(y, proba).tolist(), strict=True):
        reached = [j for j in range(classes) if row[j] >= threshold[j]]
        assert found == (max(reached, key=lambda j: row[j]) if reached else -1)


def test_labels_that_were_made_wrong_are_found(digits, tmp_path):
    X, right = digits
    rng = np.random.default_rng(0)
    wrong = rng.permutation(600)[:30]
    y = right.copy()
    y[wrong] = (y[wrong] + rng.integers(1, 10, 30)) % 10
    splits = np.resize(["train", "train", "validation", "test"], 600)
    file = write_features(tmp_path / "d.h5", X, y, splits, class_names=list("0123456789"))
    found = label_issues(Question(load_features(file), 30, designs=designs_of("ridge")))
    first = [each.row for each in found.issues[:30]]
    assert found.rows == 600 and len(set(first) & set(wrong)) >= 24
    assert np.mean([each.suggested == right[each.row] for each in found.issues if each.row in wrong]) > 0.8
    doubt = [each.other - each.own for each in found.issues]
    assert doubt == sorted(doubt, reverse=True) and min(doubt) > 0
    assert {str(splits[row]) for row in first} == {"train", "validation", "test"}


def test_rows_that_cannot_be_judged_are_told(digits, tmp_path):
    X, y = digits
    y = np.where(np.arange(600) == 7, 10, y)
    file = write_features(tmp_path / "d.h5", X, y, ["train"] * 600, class_names=[str(i) for i in range(11)])
    notes = []
    found = label_issues(Question(load_features(file), 30, designs=designs_of("centroid"), note=notes.append))
    assert found.rows == 599 and notes == ["1 rows are not judged: no other images of their class, or too many of them"]
    assert 7 not in [each.row for each in found.issues] and 10 not in [each.suggested for each in found.issues]
