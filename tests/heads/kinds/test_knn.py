"""Votes of neighbours against plain scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from featurestore.errors import HeadError
from heads.kinds.knn import KNNHead


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_knn_is_scikit_learns(digits, metric, weights):
    X, y = digits
    head = KNNHead(n_neighbors=3, metric=metric, weights=weights, standardize=False).fit(X[:400], y[:400])
    plain = KNeighborsClassifier(3, metric=metric, weights=weights).fit(X[:400], y[:400])
    np.testing.assert_allclose(head.predict_proba(X[400:]), plain.predict_proba(X[400:]), atol=1e-5)


def test_more_neighbours_than_rows(digits):
    X, y = digits
    with pytest.raises(HeadError, match="only 20 training rows"):
        KNNHead(n_neighbors=21).fit(X[:20], y[:20])
