"""Learning curve: how good a head is with fewer training images, and what more of them would give."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from featurestore.system.files import check_writable
from featurestore.system.progress import Progress, reporting
from heads.choices import HeldOut
from heads.evaluation.alike import grouped_by_likeness
from heads.feature_table import FeatureTable, Labels, load_features
from heads.forecasting.charts import write_charts, write_page
from heads.forecasting.power_law import FEWEST, PowerLaw, fit_law
from heads.forecasting.result import LearningCurve, Point
from heads.forecasting.training_sets import (
    Repeat,
    TrainingSet,
    how_held_out,
    of_shots,
    of_sizes,
    repeats_of,
    splits_of,
)
from heads.kinds.design import HeadDesign, head_class
from heads.metrics.clustered import clustered
from heads.metrics.estimates import NORMAL_95, Estimate, wilson
from heads.metrics.outcomes import Outcomes
from heads.reporting.png import png_renderer
from heads.search.held_out import best_held, designs_of, divided
from heads.search.sweep import DEFAULT_FOLDS
from heads.search.trials import check_metric
from heads.solvers.calibration import fit_temperature, stratified_folds
from heads.solvers.scores import softmax
from heads.tasks.registry import CLASSIFICATION, METRICS, check_one_class

Doubles = NDArray[np.float64]

LOSS = "log_loss"


def curve(
    features: str | os.PathLike[str] | FeatureTable,
    *,
    head: str = "logreg",
    params: Mapping[str, Any] | Iterable[str] = (),
    tap: str | None = None,
    metric: str = "accuracy",
    held_out: HeldOut | None = None,
    sizes: Sequence[int] = (),
    shots: Sequence[int] = (),
    repeats: int = 5,
    ahead: Sequence[int] = (),
    views: bool = False,
    page: str | os.PathLike[str] | None = None,
    png: str | os.PathLike[str] | None = None,
    seed: int = 0,
    max_memory: int | None = None,
    group_near_duplicates: float | None = None,
    progress: bool | Progress = True,
    note: Callable[[str], None] | None = None,
) -> LearningCurve:
    """Measure how good a head is with fewer training images, and say what more of them would give.

    Training sets are nested and stratified, and groups of images stay whole in them. Each size chooses its own
    hyperparameters, as a sweep does: by five folds of the training set alone, among the values of the preset ``quick``
    (nine C of a logistic head). With one C for all sizes, the curve would tell how well that suits each of them. The
    chosen head is fitted to the whole training set, and measured on rows that were held out of all this.

    Through the points goes a power law, ``a - b * n ** -c``, see :mod:`heads.forecasting.power_law`.

    Args:
        features: feature file, store folder, or a table that :func:`heads.load_features` opened.
        head: a kind of head, or a recipe.
        params: values of hyperparameters, which are then the same for all sizes, see :func:`heads.fit.fit_head`.
        tap: name of the features, see :func:`heads.load_features`.
        metric: one of those of one class an image, see :func:`heads.search.sweep.sweep`.
        held_out: ``folds`` of train and validation rows (each repeat holds out another fold), or the ``validation`` or
            ``test`` rows; by default the validation rows, if there are a thousand, else folds.
        sizes: numbers of training images; by default up to eight.
        shots: images of each class instead, a few-shot table; through these goes no law.
        repeats: training sets of each size, at least 2.
        ahead: numbers of training images to look ahead to; by default twice as many as the largest training set has.
        views: whether to fit to the augmented versions of training images too.
        page: HTML file to write, with the curve and its numbers.
        png: folder for the curve as a PNG file.
        seed: of what is drawn at random.
        max_memory, group_near_duplicates, note: see :func:`heads.fit.fit_head`.
        progress: see :func:`featurestore.system.progress.reporting`.

    Raises:
        DesignError: no such head, or hyperparameter.
        HeadError: a single class; no rows to hold out; a size, or a number of shots, beyond the rows that there are; or
            the head cannot be fitted.
        StoreError: no readable feature file, or no such tap.
        WriteError: the page cannot be written.

    Example:
        >>> from heads import curve
        >>> found = curve("digits.h5", sizes=[40, 80, 160, 320], head="ridge", progress=False)
        >>> [point.images for point in found.points], found.held_rows
        ([40, 80, 160, 320], 480)
        >>> found.points[0].value < found.points[-1].value < found.ahead[0].value <= 1
        True
    """
    started = time.monotonic()
    _check(metric, repeats, sizes, shots, ahead)
    if page is not None:
        check_writable(page)
    if png is not None:
        png_renderer()
    designs = designs_of(head, params)
    table = features if isinstance(features, FeatureTable) else load_features(features, tap)
    table = grouped_by_likeness(table, group_near_duplicates, note)
    check_one_class(table.task, table.path, "a learning curve")
    how = held_out or how_held_out(table)
    divisions = repeats_of(table, how, repeats, seed)
    if metric == "roc_auc" and (classes := len(np.unique(table.y[divisions[0].pool]))) > 2:
        raise HeadError(f"{table.path}: roc_auc is of two classes, not {classes}: give another --metric")
    sets = [*(of_shots(table, divisions, shots) if shots else of_sizes(table, divisions, sizes))]
    fits = _Fits(table, designs, metric, views, seed, max_memory)
    with reporting(progress) as told:
        measured = _measure_all(fits, sets, divisions, told)
    varied = [name for name in designs[0].params if len({str(each.params[name]) for each in designs}) > 1]
    points = _points(sets, measured, metric, varied, same=how != "folds")
    points = [replace(point, shots=k) for k, point in zip(sorted(set(shots)), points, strict=True)] if shots else points
    law = None if shots else law_of(points, _values(sets, measured, metric)[1], metric, same=how != "folds")
    found = LearningCurve(
        path=str(table.path), dataset=table.dataset, head=designs[0].kind, metric=metric, held_out=how,
        held_rows=len(np.unique(np.concatenate([each.held for each in divisions]))),
        classes=len(np.unique(table.y[divisions[0].pool])), points=points,
        law=None if law is None else law.summary(),
        ahead=[] if law is None else [law.at(n) for n in sorted(ahead) or [2 * law.last]],
        notes=_notes(fits, sets, law, bool(shots), how),
        seconds=round(time.monotonic() - started, 3),
    )  # fmt: skip
    if page is not None:
        write_page(Path(page), found, law)
    files = write_charts(Path(png), found, law) if png is not None else []
    return replace(found, page=None if page is None else str(page), png=files)


def _check(metric: str, repeats: int, sizes: Sequence[int], shots: Sequence[int], ahead: Sequence[int]) -> None:
    check_metric(metric, CLASSIFICATION)
    if repeats < 2:
        raise HeadError(f"--repeats {repeats}: give 2 or more, so that it is known how much they differ")
    if sizes and shots:
        raise HeadError("--sizes are of all classes together, and --shots of each class: give one of them")
    if ahead and (min(ahead) < 1 or shots):
        raise HeadError(f"--ahead {min(ahead)}: give 1 or more images, and no --shots, through which no law goes")


@dataclass(frozen=True, eq=False)
class Measured:
    """What one training set gave on the rows held out: each metric, and the design that was chosen."""

    metrics: dict[str, Estimate]
    design: HeadDesign


@dataclass(frozen=True, eq=False)
class _Fits:
    """What all fits of a curve have in common."""

    table: FeatureTable
    designs: Sequence[HeadDesign]
    metric: str
    views: bool
    seed: int
    max_memory: int | None

    def measure(self, rows: Labels, repeat: Repeat) -> Measured:
        """Choose a design by folds of some rows, fit it to all of them, and measure it on the rows held out."""
        inner = None
        if folds := self.folds(rows):
            inner = self._held(rows, None, self.designs, folds)
        design = inner.trial.design if inner else self.default
        outer = self._held(rows, repeat.held, [design], None)
        if head_class(design.kind).scores_are_probabilities:
            outcomes = Outcomes.of(outer.codes, outer.scores)
        else:
            temperature = fit_temperature(inner.scores, inner.codes) if inner else 1.0
            outcomes = Outcomes.of(outer.codes, softmax(outer.scores / temperature))
        groups = self.table.groups(outer.rows) if self.table.grouped else None
        return Measured(clustered(outcomes, groups), design)

    def _held(self, rows: Labels, held: Labels | None, designs: Sequence[HeadDesign], folds: int | None) -> Any:
        return best_held(
            divided(self.table, splits_of(self.table, rows, held)), designs, folds, self.metric,
            views=self.views, seed=self.seed, max_memory=self.max_memory,
        )  # fmt: skip

    def folds(self, rows: Labels) -> int:
        """Return the number of folds that some rows can be divided into; 0 where no row can be held out."""
        y = self.table.y[rows].astype(np.intp)
        folds = min(DEFAULT_FOLDS, int(np.bincount(y).max()))
        return folds if folds > 1 and stratified_folds(y, folds, self.seed, self.table.groups(rows)).max() > 0 else 0

    @property
    def default(self) -> HeadDesign:
        """The design whose varied hyperparameters have their defaults, for training sets that cannot choose."""
        known = HeadDesign(self.designs[0].kind).params
        same = {name: value for name, value in self.designs[0].params.items()
                if len({str(each.params[name]) for each in self.designs}) == 1}  # fmt: skip
        return HeadDesign(self.designs[0].kind, {**known, **same})


def _measure_all(
    fits: _Fits, sets: Sequence[TrainingSet], repeats: Sequence[Repeat], told: Progress | None
) -> list[Measured]:
    """Measure each training set; equal ones, such as all rows against one held-out split, are fitted once."""
    known: dict[tuple[bytes, bytes], Measured] = {}
    found = []
    for done, each in enumerate(sets, 1):
        repeat, rows = repeats[each.repeat], np.sort(each.rows)
        key = rows.tobytes(), repeat.held.tobytes()
        if key not in known:
            known[key] = fits.measure(rows, repeat)
            if fits.metric not in known[key].metrics:
                raise HeadError(f"{fits.table.path}: {fits.metric} is of two classes, and of held-out rows of both: "
                                "give another --metric")  # fmt: skip
        found.append(known[key])
        if told:
            value = found[-1].metrics[fits.metric].value
            told("training sets", done, len(sets), f"{len(rows):,} images: {fits.metric} {value:.3f}")
    return found


def _matrix(sets: Sequence[TrainingSet], values: Iterable[float]) -> Doubles:
    """Return values of training sets as a matrix (repeats, sizes)."""
    repeats = max(each.repeat for each in sets) + 1
    return np.array([*values], np.float64).reshape(-1, repeats).T


def _values(sets: Sequence[TrainingSet], measured: Sequence[Measured], metric: str) -> tuple[Doubles, Doubles]:
    """Return the metric and its standard error on the rows held out, of each repeat and size: (R, S) each."""
    found = [measure.metrics[metric] for measure in measured]
    return _matrix(sets, (each.value for each in found)), _matrix(sets, (each.error for each in found))


def _points(
    sets: Sequence[TrainingSet], measured: Sequence[Measured], metric: str, varied: Sequence[str], *, same: bool
) -> list[Point]:
    names = [name for name in METRICS if name in measured[0].metrics]
    means = {name: _matrix(sets, (m.metrics[name].value for m in measured)).mean(axis=0) for name in names}
    values, errors = _values(sets, measured, metric)
    images = _matrix(sets, (len(each.rows) for each in sets)).mean(axis=0)
    found = []
    for i in range(values.shape[1]):
        error = _error(values[:, i], errors[:, i], same)
        chosen = measured[i * len(values) : (i + 1) * len(values)]
        found.append(Point(
            images=round(float(images[i])), shots=None, value=float(values[:, i].mean()),
            error=error, interval=_interval(metric, float(values[:, i].mean()), error),
            metrics={name: float(means[name][i]) for name in names}, repeats=values[:, i].tolist(),
            chosen={name: [each.design.params[name] for each in chosen] for name in varied},
        ))  # fmt: skip
    return found


def _error(values: Doubles, errors: Doubles, same: bool) -> float:
    """Return the standard error of the mean of repeats (R,), whose own errors are those of their held-out rows (R,).

    Where all repeats are measured on the `same` rows, these rows' share of the doubt does not become less with more
    repeats. Where each holds out another fold, the spread of the repeats has both shares in it.
    """
    spread, rows = float(values.var(ddof=1)) / len(values), float((errors**2).mean())
    return float(np.sqrt(spread + rows if same else max(spread, rows / len(values))))


def _interval(metric: str, value: float, error: float) -> list[float]:
    if metric == LOSS:
        return [max(0.0, value - NORMAL_95 * error), value + NORMAL_95 * error]
    # Wilson's, for as many rows as have this error; a share of 0 or 1 has that of a share which lies a little inside.
    inside = min(max(value, error**2), 1 - error**2)
    rows = max(inside * (1 - inside), error**2) / error**2
    return wilson(value * rows, rows)


def law_of(points: Sequence[Point], errors: Doubles, metric: str, *, same: bool) -> PowerLaw | None:
    """Fit the law, with the doubt that points have each for itself, and that which they have in common.

    Args:
        points: of each size.
        errors: standard errors of each repeat and size on the rows held out (R, S).
        metric: of the points.
        same: see :func:`_error`.
    """
    if len(points) < FEWEST:
        return None
    values = np.array([point.repeats for point in points]).T
    # What a repeat is better or worse by at all sizes is in common: its rows held out, and its first training images.
    common = values.mean(axis=1)
    rest = values - common[:, None] - values.mean(axis=0) + values.mean()
    own = rest.var(axis=0) * len(values) / (len(values) - 1) * len(points) / (len(points) - 1) / len(values)
    level = _error(common, errors.mean(axis=1), same)
    # A few repeats tell little of the noise of one size: half of it is taken from all sizes together.
    noise = np.sqrt((own + own.mean()) / 2)
    images = np.array([point.images for point in points], np.float64)
    return fit_law(images, values.mean(axis=0), noise, level, less_is_better=metric == LOSS)


def _notes(fits: _Fits, sets: Sequence[TrainingSet], law: PowerLaw | None, shots: bool, how: str) -> list[str]:
    notes = []
    unable = dict.fromkeys(each.point for each in sets if len(fits.designs) > 1 and not fits.folds(each.rows))
    if unable:
        small = ", ".join(map(str, unable))
        notes.append(f"training sets of {small} {'of each class ' if shots else ''}cannot be divided into folds: "
                     "their hyperparameters have the defaults")  # fmt: skip
    if how == "test":
        notes.append("test rows are held out: figures on them are no longer new to whoever chooses by this curve")
    if law is None and not shots:
        notes.append(f"no law is fitted: it needs {FEWEST} sizes, and so more images of each class")
    return notes
