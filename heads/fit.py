"""Fit one head on a feature file."""

import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from featurestore.errors import HeadError
from featurestore.system.machine import version_of
from heads.documents import MOST_CLASSES
from heads.feature_table import FeatureTable, load_features
from heads.kinds.design import HeadDesign, head_class
from heads.metrics.estimates import estimates_of
from heads.storage.record import Record
from heads.storage.saved_head import FittedHead, check_target, save_head

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
) -> FittedHead:
    """Fit a head on the train rows of a feature file. Test rows are not read.

    Args:
        features: a feature file, a store folder, or a table that :func:`heads.load_features` opened.
        head: a kind of :data:`heads.kinds.design.KINDS`, or the name of a recipe of :data:`heads.kinds.design.RECIPES`.
        params: values of hyperparameters by name, typed or as text, or texts ``name=value``; the others get their
            default.
        out: the folder to save the head in; a saved head there is replaced.
        tap: the name of the features, see :func:`heads.load_features`.
        views: whether to fit on the augmented versions of train rows too, if there are any.
        seed: of all that is random in the fit.

    Returns:
        The head, with its metrics on the train and validation rows. (A dense head chose its best epoch on the latter.)

    Raises:
        DesignError: there is no such head or hyperparameter, or it does not take the value.
        HeadError: there are no train rows, or they are of one class or hold NaN or infinity; or `out` holds something
            else than a saved head.
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
    fitted = _with_metrics(table, fit_table(table, design, seed=seed, views=views))
    return fitted if out is None else save_head(out, fitted)


def fit_table(
    table: FeatureTable,
    design: HeadDesign,
    *,
    seed: int,
    views: bool = True,
    pooled: bool = False,
    temperature: float | None = None,
) -> FittedHead:
    """Fit a design as :func:`fit_head` does, without measuring its metrics.

    Args:
        table: the features.
        design: the design.
        seed: of all that is random in the fit.
        views: whether to fit on the augmented versions of train rows too.
        pooled: whether to fit on the validation rows too.
        temperature: see :meth:`heads.kinds.base.Head.fit`.
    """
    rows = table.split_counts()
    splits = [("train", "validation")] if pooled else [("train",), ("validation",)]
    known = {split[0]: table.select(*split) for split in splits if any(name in rows for name in split)}
    stopped_by = ["validation"] if "validation" in known and head_class(design.kind).stops_early else []
    check_train(table, known)
    versions = table.views(*splits[0]) if views else None
    start = time.perf_counter()
    with table.named():
        model = design.build(seed).fit(
            *known["train"], validation=known.get("validation"), views=versions,
            groups=table.groups(table.rows(*splits[0])), temperature=temperature,
        )  # fmt: skip
    fitted = FittedHead(
        head=model,
        design=design,
        class_names=table.class_names,
        inputs=table.inputs,
        dataset=table.dataset,
        rows=rows,
        views=len(versions[1]) if versions else 0,
        metrics={},
        seconds=time.perf_counter() - start,
        seed=seed,
        versions=library_versions(),
        record=Record.of(table.digests, table.splits, splits[0], stopped_by),
    )
    if model.held_out_ is None:
        return fitted
    scores, codes = model.held_out_
    return fitted.with_reference(scores, model.temperature_, codes, model.classes_)


def _with_metrics(table: FeatureTable, fitted: FittedHead) -> FittedHead:
    """Return the head with its metrics on the train and validation rows."""
    metrics = {}
    # A training row is its own nearest neighbour: its votes would say nothing, and take long.
    for split in ("validation",) if fitted.head.scores_are_probabilities else ("train", "validation"):
        X, y = table.select(split)
        if len(y):
            with table.named():
                found = estimates_of(fitted.outcomes(X, y))
            metrics[split] = {name: each.value for name, each in found.items()}
    return replace(fitted, metrics=metrics)


def check_train(table: FeatureTable, known: Mapping[str, tuple[Any, Any]]) -> None:
    """Check that a head can be fitted to the rows and labels of split ``train``.

    Raises:
        HeadError: there are none, they are of one class, or of more classes than a head takes.
    """
    if "train" not in known:
        counts = ", ".join(f"{name} ({count})" for name, count in table.split_counts().items())
        raise HeadError(f"{table.path}: no train rows to fit a head on; its splits: {counts or 'none'}")
    if (named := len(table.class_names)) > MOST_CLASSES:
        raise HeadError(f"{table.path}: {named:,} classes, and a head takes at most {MOST_CLASSES:,}: extract fewer")
    classes = np.unique(known["train"][1])
    if len(classes) < 2:
        raise HeadError(
            f"{table.path}: all train rows are of class {table.class_names[classes[0]]!r}: a head needs two classes"
        )


def library_versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that are loaded."""
    found = {name: str(sys.modules[name].__version__) for name in _LIBRARIES if name in sys.modules}
    own = version_of("featurestore")
    return found | ({"featurestore": own} if own else {})
