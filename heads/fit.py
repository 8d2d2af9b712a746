"""Fit one head on a feature file."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from featurestore.system.machine import version_of
from heads.documents import MOST_CLASSES
from heads.evaluation.alike import grouped_by_likeness
from heads.feature_table import FeatureTable, Labels, load_features
from heads.kinds.base import Head
from heads.kinds.design import HeadDesign, head_class
from heads.rows import NumericScaling, Rows, stay_on_disk
from heads.solvers.arrays import Extent
from heads.storage.numeric_input import NumericInput
from heads.storage.record import Record
from heads.storage.saved_head import FittedHead, check_target, save_head
from heads.storage.threshold import parsed_threshold, with_threshold
from heads.tasks.registry import TASKS

_LIBRARIES = ("numpy", "sklearn", "keras", "tensorflow", "jax", "torch")


def fit_head(
    features: str | os.PathLike[str] | FeatureTable,
    head: str = "logreg",
    *,
    params: Mapping[str, Any] | Iterable[str] = (),
    out: str | os.PathLike[str] | None = None,
    tap: str | None = None,
    views: bool = True,
    seed: int = 0,
    max_memory: int | None = None,
    group_near_duplicates: float | None = None,
    threshold: str | float | None = None,
    novelty: bool = False,
    note: Callable[[str], None] | None = None,
) -> FittedHead:
    """Fit a head on the train rows of a feature file. Test rows are not read.

    Features that would take more than half of the memory stay on disk, and are read a block at a time, whenever the
    fit needs them. The head is the same.

    Args:
        features: a feature file, a store folder, or a table that :func:`heads.load_features` opened.
        head: a kind of :data:`heads.kinds.design.KINDS`, or the name of a recipe of :data:`heads.kinds.design.RECIPES`.
        params: values of hyperparameters by name, typed or as text, or texts ``name=value``; the others get their
            default.
        out: the folder to save the head in; a saved head there is replaced.
        tap: the name of the features, see :func:`heads.load_features`.
        views: whether to fit on the augmented versions of train rows too, if there are any.
        seed: of all that is random in the fit.
        max_memory: bytes that the fit may use, without those that this process has before, and without the pages of
            the feature file, which the kernel keeps for as long as there is room. By default half of the machine's.
        group_near_duplicates: rows whose features have at least this cosine are one group, and held out together
            wherever the fit holds rows out, see :func:`heads.evaluation.alike.find_alike`; None for no such groups.
        threshold: of two classes, the probability of the second from which on a row is said to be of it, or what that
            is chosen by on training rows that were held out: one of :data:`heads.metrics.thresholds.CRITERIA`
            (``accuracy``, ``balanced_accuracy``, ``f1`` of the second class); None for one half.
        novelty: whether the head carries a few thousand training rows, in 64 directions, by which predictions say how
            unlike these an image is, see :class:`heads.storage.novelty.Novelty`: 0.7 MB of 1,280 features, 3.6 MB of
            25,088.
        note: is called with a sentence on these groups.

    Returns:
        The head, with its metrics on the train and validation rows. (A dense head chose its best epoch on the latter.)

    Raises:
        DesignError: there is no such head or hyperparameter, or it does not take the value.
        HeadError: there are no train rows, or they are of one class or hold NaN or infinity; such a head takes more
            memory; or `out` holds something else than a saved head.
        StoreError: there is no readable feature file, or no such tap.

    Example:
        >>> from heads import fit_head, load_features
        >>> head = fit_head("digits.h5", "logreg", params={"C": 0.01}, out="my-head")
        >>> head.metrics["validation"]["accuracy"] > 0.9
        True
        >>> X, y = load_features("digits.h5").select("test")
        >>> head.predict(X[:3])
        array(['digit ...', 'digit ...', 'digit ...'], dtype='<U7')
    """
    design = HeadDesign.parse(head, params)
    if out is not None:
        check_target(out)
    table = features if isinstance(features, FeatureTable) else load_features(features, tap)
    table = grouped_by_likeness(table, group_near_duplicates, note)
    parted = parsed_threshold(threshold, table.class_names, table.task)
    fitted = fit_table(table, design, seed=seed, views=views, max_memory=max_memory)
    fitted = _with_metrics(table, with_threshold(fitted, parted, _held_out(fitted.head)))
    if novelty:
        fitted = fitted.with_novelty(table, table.rows("train"))
    return fitted if out is None else save_head(out, fitted)


def fit_table(
    table: FeatureTable,
    design: HeadDesign,
    *,
    seed: int,
    views: bool = True,
    pooled: bool = False,
    temperature: float | None = None,
    max_memory: int | None = None,
) -> FittedHead:
    """Fit a design as :func:`fit_head` does, without measuring its metrics.

    Args:
        table: the features.
        design: the design.
        seed: of all that is random in the fit.
        views: whether to fit on the augmented versions of train rows too.
        pooled: whether to fit on the validation rows too.
        temperature: see :meth:`heads.kinds.base.Head.fit`.
        max_memory: see :func:`fit_head`.

    Raises:
        HeadError: see :func:`fit_head`.
    """
    splits, none = ("train", "validation") if pooled else ("train",), np.arange(0)
    check_train(table, rows := table.rows(*splits))
    stops = none if pooled or not head_class(design.kind).stops_early else table.rows("validation")
    used, owners = table.shown(rows) if views else (none, none)
    model, task = design.build(seed), TASKS[table.task]
    extent = Extent(len(rows) + len(used), len(rows), table.columns, task.width(table.y[rows]))
    read = reader_of(table, model, extent, max_memory, numeric := table.scaling(rows))
    start = time.perf_counter()
    with table.named():
        model.fit(
            read(rows, none),
            table.y[rows],
            validation=(read(stops, none), table.y[stops]) if len(stops) else None,
            views=(read(none, used), owners) if len(used) else None,
            groups=table.groups(rows),
            temperature=temperature, task=task.name,
        )  # fmt: skip
    fitted = FittedHead(
        head=model,
        design=design,
        class_names=table.class_names,
        inputs=table.inputs,
        numeric=NumericInput.of(table.numeric, numeric),
        dataset=table.dataset,
        rows=table.split_counts(),
        views=len(used),
        metrics={},
        seconds=time.perf_counter() - start,
        seed=seed,
        versions=library_versions(),
        record=Record.of(table.digest_bytes, table.splits, splits, ["validation"] if len(stops) else []),
    )
    if model.held_out_ is None:
        return fitted
    scores, codes = model.held_out_
    return fitted.with_reference(scores, model.temperature_, codes, model.classes_)


def reader_of(
    table: FeatureTable,
    model: Head,
    extent: Extent,
    max_memory: int | None,
    numeric: NumericScaling | None = None,
) -> Callable[[Labels, Labels], Rows]:
    """Return the function that gives some rows and views of a table to a fit: in memory, or as they are used.

    Args:
        table: the features.
        model: the head that is to be fitted.
        extent: what it is fitted to.
        max_memory: see :func:`fit_head`.
        numeric: how numeric columns are scaled.

    Raises:
        HeadError: the fit takes more memory in any case.
    """
    if why := model.obstacle_alone(extent, max_memory):
        raise HeadError(f"{table.path}: such a head cannot be fitted: {why}")
    # In memory a fit has the rows as they are in the file, as float32, and standardised.
    if stay_on_disk(extent.rows, extent.columns, 3, max_memory):
        return lambda rows, views: table.stream(np.concatenate([rows, len(table.y) + views]), numeric)
    return partial(table.read, numeric=numeric)


def _held_out(head: Head) -> tuple[NDArray[np.float64], Labels] | None:
    """Return the probabilities (J, C) of the rows that a fit held out, and their codes (J,); None if there are none."""
    if head.held_out_ is None or head.link_ is not None:
        return None
    scores, codes = head.held_out_
    return head.task_.outputs(scores / head.temperature_, None, head.scores_are_probabilities), codes


def _with_metrics(table: FeatureTable, fitted: FittedHead) -> FittedHead:
    """Return the head with its metrics on the train and validation rows."""
    metrics = {}
    # A training row is its own nearest neighbour: its votes would say nothing, and take long.
    model = fitted.head
    for split in ("validation",) if model.scores_are_probabilities else ("train", "validation"):
        if len(rows := table.rows(split)):
            with table.named():
                found = model.task_.estimates(fitted.outcomes(table.stream(rows), table.y[rows]))
            metrics[split] = {name: each.value for name, each in found.items()}
    return replace(fitted, metrics=metrics)


def check_train(table: FeatureTable, rows: Labels) -> None:
    """Check that a head can be fitted to some rows of a table.

    Raises:
        HeadError: there are none, they are of one class, or of more classes than a head takes.
    """
    if not len(rows):
        counts = ", ".join(f"{name} ({count})" for name, count in table.split_counts().items())
        raise HeadError(f"{table.path}: no train rows to fit a head on; its splits: {counts or 'none'}")
    if (named := len(table.class_names)) > MOST_CLASSES:
        raise HeadError(f"{table.path}: {named:,} classes, and a head takes at most {MOST_CLASSES:,}: extract fewer")
    with table.named():
        TASKS[table.task].check(table.y[rows], table.class_names)


def library_versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that are loaded."""
    found = {name: str(sys.modules[name].__version__) for name in _LIBRARIES if name in sys.modules}
    own = version_of("featurestore")
    return found | ({"featurestore": own} if own else {})
