"""The charts of a report: each a drawing, with its numbers in a table for those who do not see it or want to check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

from featurestore.pages.svg import SIDE, Axis, Figure, shortened
from heads.search.trials import Trial

_SHARE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_COLOURED = 8
"""Classes of a map that have a colour of their own; those of Okabe and Ito can be told apart by nearly everybody."""
_NAMED = 25
"""Classes up to which a table of confusions has names at its sides, and in the page's table all its cells."""
_LISTED = 200
"""Rows of the table behind a chart, at most."""


@dataclass(frozen=True)
class Chart:
    """A drawing and what stands around it.

    Attributes:
        id: its name in the page, and of its PNG file.
        title: what it shows.
        svg: the drawing.
        note: how to read it.
        heading, rows: the table behind it, numbers ready to print.
    """

    id: str
    title: str
    svg: Markup
    note: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]


def leaderboard(trials: Sequence[Trial], winner: Trial, metric: str) -> Chart:
    """Each head of a sweep: its metric against the time that it took."""
    usable = [trial for trial in trials if np.isfinite(trial.mean)]
    seconds = [max(trial.seconds, 1e-4) for trial in usable]
    x, y = Axis.around(seconds, "seconds", log=True), Axis.around([t.mean for t in usable], metric.replace("_", " "))
    figure = Figure(x, y)
    for series, kind in enumerate(sorted({trial.design.kind for trial in usable})):
        some = [i for i, trial in enumerate(usable) if trial.design.kind == kind]
        figure.marks(series, [seconds[i] for i in some], [usable[i].mean for i in some])
        figure.legend(series, f"{kind} ({len(some)})")
    figure.circles("ring", [max(winner.seconds, 1e-4)], [winner.mean], [7])
    best: dict[str, Trial] = {}
    for trial in usable:
        best.setdefault(trial.design.kind, trial)
    rows = [[kind, f"{t.mean:.3f}", f"{t.error:.3f}", f"{t.seconds:.3g}"] for kind, t in best.items()]
    title = f"{metric.replace('_', ' ').capitalize()} against fit time"
    note = "Each mark is a head; the ring is the winner. Time is a head's share of the sweep's."
    alt = f"Scatter of {len(usable)} heads; the table gives the best of each kind."
    return Chart("leaderboard", title, figure.svg(alt), note, ["best of", metric, "± error", "seconds"], rows)


def learning_curves(losses: Mapping[str, Sequence[float]], id: str, title: str, note: str) -> Chart:
    """Log loss after each epoch. The first two curves are told apart; all others are faint."""
    curves = {name: np.asarray(curve, np.float64) for name, curve in losses.items()}
    values = np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    # A curve that rises far above where it started would flatten all others.
    ceiling = float(np.quantile(values, 0.98)) if len(values) else 1.0
    y = Axis(0, 1.05 * ceiling or 1.0, "log loss")
    figure = Figure(Axis(1, max(2, *map(len, curves.values())), "epoch"), y)
    for place, curve in reversed(list(enumerate(curves.values()))):
        shown = np.flatnonzero(np.isfinite(curve))
        if len(shown):
            kind = f"l{place} thick" if place < 2 else "faint"
            figure.line(kind, shown + 1, np.minimum(curve[shown], y.high))
    for series, name in list(enumerate(curves))[:2]:
        lowest = int(np.nanargmin(curves[name])) if np.isfinite(curves[name]).any() else 0
        figure.marks(series, [lowest + 1], [min(float(curves[name][lowest]), y.high)])
        figure.legend(series, name)
    rows = [
        [name, str(len(curve)), f"{np.nanmin(curve):.3f}", str(int(np.nanargmin(curve)) + 1), f"{curve[-1]:.3f}"]
        for name, curve in list(curves.items())[:_LISTED]
        if np.isfinite(curve).any()
    ]
    alt = f"{len(curves)} curves of log loss over epochs; the table gives the least of each."
    return Chart(id, title, figure.svg(alt), note, ["curve", "epochs", "least", "in epoch", "last"], rows)


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Chart:
    """True against predicted class; colours are shares of the true class."""
    counts = np.asarray(matrix)
    n = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = n <= _NAMED
    figure = Figure(Axis(0, n), Axis(0, n), left=92 if named else 20, bottom=84 if named and n > 6 else 44, grid=False)
    cell = SIDE / n
    for i, j in zip(*(axis.tolist() for axis in np.nonzero(counts)), strict=True):
        figure.cell("right" if i == j else "wrong", j, n - i, 0.12 + 0.88 * shares[i, j])
        if cell >= 18:
            kind = "on" if shares[i, j] > 0.5 else "ink"
            figure.text((j + 0.5) * cell, (i + 0.5) * cell + 4, f"{counts[i, j]:,}", kind)
    for i, name in enumerate(names if named else ()):
        figure.text(-6, (i + 0.5) * cell + 4, shortened(name, 12), "end")
        if cell >= 50:
            figure.text((i + 0.5) * cell, SIDE + 14, shortened(name, int(cell / 5.8)))
        else:
            figure.text(-SIDE - 6, (i + 0.5) * cell + 4, shortened(name, 10), "end", turned=True)
    figure.line("", [0, n, n, 0, 0], [0, 0, n, n, 0])
    figure.text(SIDE / 2, SIDE + (76 if named and cell < 50 else 36), "predicted")
    figure.text(-SIDE / 2, -82 if named else -8, "true", turned=True)
    if named:
        heading = ["true \\ predicted", *names]
        rows = [[name, *(f"{count:,}" for count in row)] for name, row in zip(names, counts.tolist(), strict=True)]
    else:
        off = counts * ~np.eye(n, dtype=bool)
        cells = [divmod(int(at), n) for at in np.argsort(-off, axis=None, kind="stable")[:_LISTED]]
        heading = ["true class", "predicted as", "rows", "of"]
        rows = [[names[i], names[j], str(off[i, j]), str(counts[i].sum())] for i, j in cells if off[i, j]]
    alt = f"Table of {n} true against {n} predicted classes in colours; the table gives the numbers."
    note = "A row is a true class; the stronger the colour, the larger its share there. Right is blue, wrong is orange."
    return Chart("confusion", "Confusion matrix", figure.svg(alt), note, heading, rows)


def mistakes(confused: Sequence[Mapping[str, Any]], classes: int, most: int = 30) -> Chart:
    """The most frequent pairs of a true class and a predicted one, where a matrix of all classes would be a blur."""
    shown = confused[:most]
    height, n = max(60, 18 * len(shown)), len(shown)
    figure = Figure(Axis(0, shown[0]["rows"], "rows"), Axis(0, n, ticks=()), height=height, left=192)
    for i, pair in enumerate(shown):
        figure.line("thick l1", [0, pair["rows"]], [n - i - 0.5] * 2)
        words = f"{shortened(pair['class'], 14)} → {shortened(pair['predicted'], 14)}"
        figure.text(-6, height * (i + 0.5) / n + 4, words, "end")
    rows = [[pair["class"], pair["predicted"], f"{pair['rows']:,}"] for pair in confused]
    note = f"The matrix of {classes:,} × {classes:,} classes is left out: these are its largest cells off the diagonal."
    alt = f"Rows of the {n} most frequent mistakes; the table gives the numbers."
    heading = ["true class", "predicted as", "rows"]
    return Chart("confusion", "The most frequent mistakes", figure.svg(alt), note, heading, rows)


def class_scores(per_class: Sequence[Mapping[str, Any]], most: int = 60) -> Chart:
    """Recall of each class with its interval, and precision; the worst first."""
    known = sorted((c for c in per_class if c["support"]), key=lambda c: (c["recall"], c["class"]))
    shown = known[:most]
    n = len(shown)
    figure = Figure(Axis(0, 1, "share", ticks=_SHARE), Axis(0, n, ticks=()), height=max(60, 18 * n), left=102)
    height = max(60, 18 * n)
    for i, entry in enumerate(shown):
        y = n - i - 0.5
        figure.line("thick l0", entry["recall_interval"], [y, y])
        figure.text(-6, height * (i + 0.5) / n + 4, shortened(entry["class"], 14), "end")
    places = [n - i - 0.5 for i in range(n)]
    figure.marks(3, [entry["precision"] for entry in shown], places)
    figure.marks(0, [entry["recall"] for entry in shown], places)
    figure.legend(0, "recall, 95 % interval")
    figure.legend(3, "precision")
    rows = [
        [
            c["class"], f"{c['recall']:.3f}", "{:.3f} – {:.3f}".format(*c["recall_interval"]),
            f"{c['precision']:.3f}", f"{c['f1']:.3f}", f"{c['support']:,}",
        ]
        for c in known
    ]  # fmt: skip
    more = f" The {most} worst of {len(known)} classes." if len(known) > most else ""
    alt = f"Recall and precision of {n} classes; the table gives the numbers."
    heading = ["class", "recall", "95 % interval", "precision", "F1", "rows"]
    return Chart("classes", "Each class", figure.svg(alt), f"The worst recall stands first.{more}", heading, rows)


def reliability_diagram(found: Mapping[str, Mapping[str, Any]]) -> Chart:
    """How often predictions of each confidence are right; of probabilities as they are and as they were.

    Args:
        found: name -> result of :func:`heads.evaluation.audit.reliability`.
    """
    share = [0, 1]
    figure = Figure(
        Axis(0, 1, "confidence: probability of the predicted class", ticks=_SHARE),
        Axis(0, 1, "share that is right", ticks=_SHARE),
    )
    figure.line("middle", share, share)
    rows = []
    for series, (name, curve) in enumerate(found.items()):
        bins = curve["bins"]
        confidence, accuracy = ([each[key] for each in bins] for key in ("confidence", "accuracy"))
        figure.line(f"l{series}", confidence, accuracy)
        for each in bins if series == 0 else ():
            figure.line("l0 faint thick", [each["confidence"]] * 2, each["interval"])
        figure.marks(series, confidence, accuracy)
        figure.legend(series, f"{name} ({curve['error']:.3f})")
        rows += [
            [name, f"{b['confidence']:.3f}", f"{b['accuracy']:.3f}", "{:.3f} – {:.3f}".format(*b["interval"]),
             str(b["rows"])]
            for b in bins
        ]  # fmt: skip
    note = "On the dashed line, probabilities are what they say. In brackets: the expected calibration error."
    alt = "Reliability diagram: share of right predictions against their confidence; the table gives the numbers."
    heading = ["probabilities", "mean confidence", "right", "95 % interval", "rows"]
    return Chart("reliability", "Reliability", figure.svg(alt), note, heading, rows)


def rates(found: Mapping[str, Sequence[float]], positive: str, auc: float | None) -> list[Chart]:
    """ROC curve and precision-recall curve of two classes.

    Args:
        found: result of :func:`heads.evaluation.audit.thresholds`.
        positive: name of the class that is looked for.
        auc: area under the ROC curve.
    """
    recall, wrong, precision = ([float(v) for v in found[k]] for k in ("recall", "false_positive_rate", "precision"))
    some = np.unique(np.linspace(0, len(recall) - 1, 25).astype(int)).tolist()
    heading = ["threshold", "true positive rate (recall)", "false positive rate", "precision"]
    rows = [
        [f"{found['threshold'][i]:.3f}", f"{recall[i]:.3f}", f"{wrong[i]:.3f}", f"{precision[i]:.3f}"] for i in some
    ]
    x, y = (Axis(0, 1, f"{name} positive rate", ticks=_SHARE) for name in ("false", "true"))
    roc = Figure(x, y)
    roc.line("middle", [0, 1], [0, 1])
    roc.line("l0 thick", [0, *wrong], [0, *recall])
    both = Figure(Axis(0, 1, "recall", ticks=_SHARE), Axis(0, 1, "precision", ticks=_SHARE))
    both.line("l0 thick", [0, *recall], [precision[0], *precision])
    area = float(np.sum(np.diff([0, *recall]) * precision))
    under = f"The area below it is {auc:.3f}. " if auc is not None else ""
    looked = f"The class that is looked for: {positive}."
    alt = "{} of two classes; the table gives the numbers."
    return [
        Chart("roc", "ROC curve", roc.svg(alt.format("ROC curve")), under + looked, heading, rows),
        Chart(
            "precision-recall",
            "Precision and recall",
            both.svg(alt.format("Precision against recall")),
            f"Average precision is {area:.3f}. {looked}",
            heading,
            rows,
        ),
    ]


def feature_map(places: NDArray[np.float64], y: ArrayLike, names: Sequence[str], explained: float) -> Chart:
    """Features on their first two principal axes, coloured by class; of many classes the largest."""
    labels = np.asarray(y)
    sizes = np.bincount(labels, minlength=len(names))
    largest = np.argsort(-sizes, kind="stable")[: _COLOURED if len(names) > _COLOURED else len(names)]
    x, up = Axis.around(places[:, 0], "first principal axis"), Axis.around(places[:, 1], "second principal axis")
    figure = Figure(Axis(x.low, x.high, x.label, ticks=()), Axis(up.low, up.high, up.label, ticks=()), left=24)
    rest = ~np.isin(labels, largest)
    if rest.any():
        figure.marks(_COLOURED, places[rest, 0], places[rest, 1])
    rows, middles = [], []
    for series, label in enumerate(largest.tolist()):
        inside = labels == label
        if inside.any():
            figure.marks(series, places[inside, 0], places[inside, 1])
            middle = np.median(places[inside], axis=0)
            middles.append((middle, names[label]))
            spread = np.sqrt(np.mean(np.sum((places[inside] - middle) ** 2, axis=1)))
            rows.append([names[label], *(f"{v:.2f}" for v in (*middle, spread)), f"{inside.sum():,}"])
            figure.legend(series, names[label])
    if rest.any():
        figure.legend(_COLOURED, f"{len(names) - len(largest)} other classes")
    for middle, name in middles:
        (a, b), *_ = figure.places(middle[:1], middle[1:]).tolist()
        figure.text(a, b, shortened(name, 16), "name")
    note = (
        f"Principal component analysis: the two axes show {explained:.0%} of the variance, so much overlap is theirs."
    )
    alt = f"Map of {len(labels)} images by their features; the table gives the middle of each class."
    heading = ["class", "middle, first axis", "second axis", "spread", "images"]
    return Chart("map", "Map of the features", figure.svg(alt), note, heading, rows)
