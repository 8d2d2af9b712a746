"""A power law through a learning curve, and what it says of more images, with its doubt.

The law is ``a - b * n ** -c`` for n training images: a metric rises to its asymptote `a` (Cortes et al., "Learning
curves: asymptotic values and rate of convergence", NIPS 1993; Figueroa et al., "Predicting sample size required for
classification performance", BMC Medical Informatics and Decision Making 2012; Viering & Loog, "The shape of learning
curves: a review", IEEE TPAMI 2023). Least squares alone would give one curve, and say nothing of the others that fit
the points as well. For each exponent the law is linear in `a` and `b`, whose distribution is then a normal one; all
together are the posterior of a flat prior on exponents, on asymptotes up to the best value there is, and on gains.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.system.results import Result

Doubles = NDArray[np.float64]

FEWEST = 4
"""A law of three numbers needs a point more to be doubted."""
_EXPONENTS = np.linspace(0.05, 2.0, 79)
_SAMPLES, _ENOUGH = 40_000, 500
"""Laws that are drawn, and of these so many must be possible at least."""
_LEAST = 1e-4
"""The least standard error of a point: metrics of a few thousand rows have steps of about that size."""
_BOUNDS = (2.5, 97.5)


@dataclass(frozen=True, repr=False)
class Forecast(Result):
    """What a law says of a number of training images.

    Attributes:
        images: the number of training images.
        value: median of the metric, the mean of many training sets of that size.
        interval: its 95 % interval.
        gain: how much better that is than the law's value at the largest size that was measured; for log loss, how
            much less.
        gain_interval: 95 % interval of that. It is narrower than the difference of two intervals, since what the
            held-out rows leave in doubt is the same at both sizes.
    """

    images: int
    value: float
    interval: list[float]
    gain: float
    gain_interval: list[float]


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """Laws that agree with the points of a learning curve, as many as each is likely.

    Attributes:
        a, b, c: of ``a - b * n ** -c``, float64 (L,). Of a metric of which less is better, the law is of its negative.
        sign: 1, or -1 for such a metric.
        last: the largest size that was measured.
    """

    a: Doubles
    b: Doubles
    c: Doubles
    sign: int
    last: int

    def at(self, images: float) -> Forecast:
        """Return what the law says of so many training images."""
        values, before = self._values(images), self._values(self.last)
        gain = values - before
        low, high = np.percentile(self.sign * values, _BOUNDS)
        return Forecast(
            round(images), float(np.median(self.sign * values)), [float(low), float(high)],
            float(np.median(gain)), np.percentile(gain, _BOUNDS).tolist(),
        )  # fmt: skip

    def summary(self) -> dict[str, list[float]]:
        """Return the median and the 95 % interval of the asymptote ``a``, of ``b`` and of the exponent ``c``."""
        values = {"a": self.sign * self.a, "b": self.sign * self.b, "c": self.c}
        return {name: np.percentile(each, (50, *_BOUNDS)).tolist() for name, each in values.items()}

    def _values(self, images: float) -> Doubles:
        return np.asarray(self.a - self.b * float(images) ** -self.c)


def fit_law(sizes: Doubles, values: Doubles, noise: Doubles, level: float, *, less_is_better: bool = False) -> PowerLaw:
    """Fit a power law to the points of a learning curve.

    Args:
        sizes: training images of each point (S,), S >= 4, ascending.
        values: the metric (S,): at most 1; or one of which less is better, at least 0.
        noise: standard error of each point that is its own (S,).
        level: standard error that all points have in common, since they are measured on the same rows.
        less_is_better: whether the metric falls, as log loss does.

    Example:
        >>> import numpy as np
        >>> sizes = np.array([25.0, 50, 100, 200, 400])
        >>> law = fit_law(sizes, 0.9 - 1.2 * sizes**-0.5, np.full(5, 0.002), 0.0)
        >>> found = law.at(800)
        >>> round(found.value, 2), found.interval[0] < 0.9 - 1.2 * 800**-0.5 < found.interval[1]
        (0.86, True)
    """
    sign, top = (-1, 0.0) if less_is_better else (1, 1.0)
    y = sign * values
    own, middle = np.maximum(noise, _LEAST) ** 2, float(np.exp(np.log(sizes).mean()))
    X = np.stack([np.ones((len(_EXPONENTS), len(sizes))), -((sizes / middle) ** -_EXPONENTS[:, None])], axis=2)
    _, _, misfit = _normal(X, y, np.diag(own))
    # Points that no law of this form meets say that the form is not quite right: the doubt grows by as much.
    covariance = np.diag(own * max(1.0, misfit.min() / max(len(sizes) - 3, 1))) + level**2
    mean, spread, misfit = _normal(X, y, covariance)
    weight = np.exp((misfit.min() - misfit) / 2) * np.sqrt(np.linalg.det(spread))
    rng = np.random.default_rng(0)
    which = np.searchsorted(weight.cumsum() / weight.sum(), rng.random(_SAMPLES)).clip(max=len(weight) - 1)
    drawn = np.einsum("lij,lj->li", np.linalg.cholesky(spread)[which], rng.standard_normal((_SAMPLES, 2)))
    a, gain = (mean[which] + drawn).T
    possible = (a <= top) & (gain >= 0)
    if possible.sum() >= _ENOUGH:
        a, gain, which = a[possible], gain[possible], which[possible]
    else:  # the curve is flat, or at the top already
        a, gain = np.minimum(a, top), np.maximum(gain, 0)
    c = _EXPONENTS[which]
    return PowerLaw(a, gain * middle**c, c, sign, round(float(sizes[-1])))


def _normal(X: Doubles, y: Doubles, covariance: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return means (E, 2), covariances (E, 2, 2) and misfits (E,) of weighted least squares for designs (E, S, 2)."""
    inverse = np.linalg.inv(covariance)
    spread = np.linalg.inv(np.einsum("esi,st,etj->eij", X, inverse, X))
    mean = np.einsum("eij,esj,st,t->ei", spread, X, inverse, y)
    rest = y - np.einsum("esi,ei->es", X, mean)
    return mean, spread, np.einsum("es,st,et->e", rest, inverse, rest)
