"""What a fitted head says of rows: scores, and the answers that its task makes of them."""

from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import InputError
from heads.feature_table import Floats, Rows
from heads.kinds.adaptable import Adaptable
from heads.kinds.inputs import known_rows, not_fitted
from heads.metrics.outcomes import KEPT, blocks
from heads.rows import Codes, StreamedRows
from heads.solvers.arrays import as_features, finite
from heads.solvers.calibration import Calibration
from heads.tasks.base import Link
from heads.tasks.registry import CLASSIFICATION

_READ = 8
"""A kind that does not stream reads so many times as many rows at a time when it judges them: to find neighbours of few
rows takes as long as of many."""


class Answering(Adaptable):
    """The half of :class:`heads.kinds.base.Head` that is asked when it is fitted."""

    streams: ClassVar[bool] = False
    """Whether the fit takes rows that stay on disk; other kinds get them in memory."""

    task_ = CLASSIFICATION
    link_ = cast("Link | None", None)
    classes_: NDArray[Any]

    def _scores(self, X: Floats) -> NDArray[np.floating[Any]]:
        """Return the scores (N, C) of rows (N, D) that are checked, and not standardised."""
        raise NotImplementedError

    def calibrate(self, scores: NDArray[np.floating[Any]], codes: Codes) -> Calibration | None:
        """Fit how scores become answers to scores (J, K) of rows that were held out.

        Args:
            scores: of the rows.
            codes: what they were to be, see :mod:`heads.solvers.goals`.

        Returns:
            The loss of the rows without and with it; None where there is nothing to fit.
        """
        link, found = self.task_.calibrated(scores, codes, self.link_, self.scores_are_probabilities)
        self.link_, self.temperature_ = link, 1.0 if found is None else found.temperature
        return found

    def scores(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return the scores (N, C) of rows X (N, D), with a column for each of ``classes_``, also for two classes.

        Raises:
            HeadError: the head is not fitted.
            InputError: the rows have another width than the training rows, or hold NaN or infinity.
        """
        if not hasattr(self, "classes_"):
            raise not_fitted(self)
        return self._shifted(self._scores(np.asarray(known_rows(self, X))))

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return scores as scikit-learn defines them: (N, C), but for two classes (N,), above 0 for the second.

        See :meth:`scores` for the errors.
        """
        scores = self.scores(X)
        return scores if scores.shape[1] > 2 else scores[:, 1] - scores[:, 0]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the labels (N,) of rows X (N, D); see :meth:`scores` for the errors.

        Of several labels it is 0 or 1 for each (N, L), of a regression the numbers (N,).
        """
        if self.link_ is None:
            best = self.scores(X).argmax(axis=1)
            return np.asarray(self.classes_[best])
        return self.task_.decided(self.outputs(X), self.classes_, self.link_)

    def outputs(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return what the head says of rows X (N, D): probabilities (N, C), or numbers (N, 1).

        See :meth:`scores` for the errors.
        """
        return self.answers_of(self.scores(X))

    def answers_of(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return what the head says of rows with these scores (N, C), see :meth:`outputs`."""
        if self.link_ is None and not self.scores_are_probabilities:
            scores = scores / self.temperature_
        return self.task_.outputs(scores, self.link_, self.scores_are_probabilities)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities (N, C) of rows X (N, D); see :meth:`scores` for the errors.

        Those of classes have the sum 1 in each row, and those of several labels each mean one label.

        Raises:
            InputError: the head predicts numbers.
        """
        if not self.task_.has_probabilities:
            raise InputError(f"{type(self).__name__} was fitted to numbers, which have no probabilities: call predict")
        return self.outputs(X)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the natural logarithms of the probabilities (N, C); see :meth:`scores` for the errors."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def outcomes(self, X: ArrayLike | StreamedRows, y: ArrayLike, classes: int) -> Any:
        """Compare what the head says of rows X (N, D) with their answers y, of which there are `classes` in all.

        Classes that no training row has get probability 0. The probabilities are computed block by block, so that
        those of all rows are never in memory at once; neither are rows that stay on disk.
        """
        width, y = len(self.classes_), np.asarray(y)
        if isinstance(X, StreamedRows):
            features: Rows = X
            width = max(width, X.shape[1] // (1 if self.streams else _READ))
        else:
            features = as_features(X)
        keep = len(features) * classes <= KEPT
        return self.task_.joined([
            self.task_.outcomes(y[part], finite(self.outputs(features[part])), self.classes_, classes, keep=keep)
            for part in blocks(len(features), width)
        ])  # fmt: skip

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on rows X (N, D) with labels y (N,), weighted by `sample_weight` (N,); of numbers R²."""
        weights = None if sample_weight is None else np.asarray(sample_weight)
        return self.task_.score(y, self.predict(X), weights)


def calibrated_layer(
    head: Answering, weights: NDArray[np.floating[Any]], bias: NDArray[np.floating[Any]]
) -> tuple[Floats, Floats]:
    """Return the last layer of a net, (in, out) and (out,), with the calibration of its head as a part of it."""
    if head.link_ is not None:
        return (weights * head.link_.slope).astype(np.float32), head.link_.of(bias).astype(np.float32)
    temperature = np.float32(head.temperature_)
    return weights / temperature, bias / temperature
