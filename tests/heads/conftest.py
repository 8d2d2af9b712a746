"""One small real data set for all tests of stage 2: scikit-learn's handwritten digits, their pixels as features."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import numpy as np
import pytest
from feature_files import write_features
from sklearn.datasets import load_digits

SPLITS = np.resize(["train", "train", "train", "validation", "test"], 600)


@pytest.fixture(scope="session")
def digits():
    """600 digits, shuffled because their writers stand in order: pixels float32 (600, 64) and labels (600,)."""
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:600]
    return X[rows].astype(np.float32), y[rows]


@pytest.fixture(scope="session")
def digits_file(digits, tmp_path_factory) -> Path:
    X, y = digits
    path = tmp_path_factory.mktemp("features") / "digits.h5"
    return write_features(path, X, y, SPLITS, class_names=[f"digit {i}" for i in range(10)])


@pytest.fixture(scope="session")
def pair_file(digits, tmp_path_factory) -> Path:
    """Two classes only."""
    X, y = digits
    keep = (y == 3) | (y == 8)
    path = tmp_path_factory.mktemp("features") / "pair.h5"
    return write_features(path, X[keep], y[keep] == 8, SPLITS[: keep.sum()], class_names=["three", "eight"])


@pytest.fixture(scope="session")
def gap_file(digits, tmp_path_factory) -> Path:
    """Class 1 has test rows only."""
    X, y = digits
    keep = y < 3
    splits = np.where(y == 1, "test", SPLITS)[keep]
    path = tmp_path_factory.mktemp("features") / "gap.h5"
    return write_features(path, X[keep], y[keep], splits, class_names=["zero", "one", "two"])
