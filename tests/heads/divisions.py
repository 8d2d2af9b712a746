"""Digits in folds, and the scores of heads that are fitted one by one, to compare with those judged together."""

import numpy as np

from heads.solvers.folds import Division


def divided(digits, classes=10, folds=3, order="mixed", views=False):
    """Some digits without columns of rare pixels: all in folds, or every third one held out."""
    X, y = digits
    keep = np.flatnonzero((y < classes) & (np.arange(len(y)) < 400))
    X, y = X[keep][:, X.std(axis=0) > 1], y[keep]
    fold = np.random.default_rng(0).permutation(len(y)) % 3
    if folds == 1:
        fold = np.where(fold == 0, 0, -1)
    image, plain, weights = np.arange(len(y)), np.ones(len(y), np.bool_), None
    if views:
        owners = np.arange(0, len(y), 2)
        image, plain = np.concatenate([image, owners]), np.arange(len(y) + len(owners)) < len(y)
        X = np.concatenate([X, X[owners][:, ::-1]])
        weights = 1 / np.bincount(image)[image]
    rows = np.argsort(fold[image], kind="stable") if order == "sorted" else np.random.default_rng(1).permutation(len(X))
    of = image[rows]
    return Division(X[rows], y[of], fold[of], of, plain[rows], None if weights is None else weights[rows])


def divided_rows(digits, classes=10, folds=5, views=False):
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
        scores[np.searchsorted(division.judged, held)] = head.scores(division.X[held])
    return scores


def alike(scores, expected, atol=5e-3):
    """The same predictions, but where the two best scores are a hair apart."""
    best = np.sort(expected, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e-3 * np.ptp(expected)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(scores.argmax(axis=1)[clear], expected.argmax(axis=1)[clear])
    np.testing.assert_allclose(scores, expected, atol=atol * np.ptp(expected))


def two_columns(scores):
    return np.stack([-scores, scores], axis=1) / 2 if scores.ndim == 1 else scores


def check_close(scores, expected, message=""):
    """Equal to the solver's precision; a vote between two classes that is nearly a draw may go the other way."""
    drawn = np.abs(scores - expected).max(axis=1) > 1e-3
    assert drawn.mean() <= 0.01, message
