"""Draw the charts of a report. Each has its numbers in a table, for readers who do not see it or want to check it.

:data:`CHARTS`, at the end, lists them: a new chart is a function that draws it, and a line there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.pages.svg import SIDE, Axis, Figure, shortened
from heads.console import text
from heads.evaluation.curves import Rates, Reliability
from heads.metrics.evaluation import LabelEvaluation, NumberEvaluation
from heads.reporting.answer_charts import label_scores, predicted_against_true, residual_plot
from heads.reporting.chart import SHARE, WORST, Chart, draw_each, worst_of
from heads.reporting.findings import Findings
from heads.search.trials import Trial

_COLOURED = 8
"""Classes of a map that have their own colour: nearly everybody can tell the eight of Okabe and Ito apart."""
_NAMED = 25
"""Most classes of which a confusion matrix has names at its sides, and all its cells in the table behind it."""
_LISTED = 200
"""Rows of the table behind a chart, at most."""


def leaderboard(trials: Sequence[Trial], winner: Trial, metric: str) -> Chart:
    """Draw each head of a sweep: its metric against the time that it took."""
    finite = [trial for trial in trials if np.isfinite(trial.mean)]
    usable = [trial for trial in finite if not trial.part]  # figures on fewer rows cannot be compared
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
    if parts := len(finite) - len(usable):
        note += f" {parts} heads that were judged on a part of the rows alone are left out."
    alt = f"Scatter of {len(usable)} heads; the table gives the best of each kind."
    return Chart("leaderboard", title, figure.svg(alt), note, ["best of", metric, "± error", "seconds"], rows)


def learning_curves(losses: Mapping[str, Sequence[float]], id: str, title: str, loss: str) -> Chart:
    """Draw the loss after each epoch, which `loss` names. The first two curves have a colour; all others are faint."""
    curves = {name: np.asarray(curve, np.float64) for name, curve in losses.items()}
    values = np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    # A curve that rises far above where it started would flatten all others.
    ceiling = float(np.quantile(values, 0.98)) if len(values) else 1.0
    y = Axis(0, 1.05 * ceiling or 1.0, "loss")
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
    alt = f"{len(curves)} curves of {loss} over epochs; the table gives the least of each."
    note = f"The loss is {loss} after each epoch; a mark: the least."
    return Chart(id, title, figure.svg(alt), note, ["curve", "epochs", "least", "in epoch", "last"], rows)


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Chart:
    """Draw true against predicted class; colours are shares of the true class."""
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
    """Draw the most frequent mistakes, where a matrix of all classes would have too many cells to be read."""
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


def class_scores(per_class: Sequence[Mapping[str, Any]], most: int = WORST) -> Chart:
    """Draw the recall of each class with its interval, and its precision; the worst first, of equals the largest."""
    known = sorted((c for c in per_class if c["support"]), key=lambda c: (c["recall"], -c["support"], c["class"]))
    shown = known[:most]
    marks = {"precision": (3, "precision"), "recall": (0, "recall, 95 % interval")}
    figure = draw_each(shown, "class", "recall_interval", marks)
    rows = [
        [
            c["class"], f"{c['recall']:.3f}",
            "{:.3f} – {:.3f}".format(*c["recall_interval"]) if "recall_interval" in c else "too few groups",
            f"{c['precision']:.3f}", f"{c['f1']:.3f}", f"{c['support']:,}",
        ]
        for c in known
    ]  # fmt: skip
    note = f"The worst recall stands first.{worst_of(len(shown), len(known), 'classes')}"
    alt = f"Recall and precision of {len(shown)} classes; the table gives the numbers."
    heading = ["class", "recall", "95 % interval", "precision", "F1", "rows"]
    return Chart("classes", "Each class", figure.svg(alt), note, heading, rows)


def reliability_diagram(found: Mapping[str, Reliability]) -> Chart:
    """Draw how often predictions of each confidence are right, by what the probabilities are called."""
    share = [0, 1]
    figure = Figure(
        Axis(0, 1, "confidence: probability of the predicted class", ticks=SHARE),
        Axis(0, 1, "share that is right", ticks=SHARE),
    )
    figure.line("middle", share, share)
    rows = []
    for series, (name, curve) in enumerate(found.items()):
        confidence, accuracy = [each.confidence for each in curve.bins], [each.accuracy for each in curve.bins]
        figure.line(f"l{series}", confidence, accuracy)
        for each in curve.bins if series == 0 else ():
            figure.line("l0 faint thick", [each.confidence] * 2, each.interval)
        figure.marks(series, confidence, accuracy)
        figure.legend(series, f"{name} ({curve.error:.3f})")
        rows += [
            [name, f"{b.confidence:.3f}", f"{b.accuracy:.3f}", "{:.3f} – {:.3f}".format(*b.interval), str(b.rows)]
            for b in curve.bins
        ]
    note = "On the dashed line, probabilities are what they say. In brackets: the expected calibration error."
    alt = "Reliability diagram: share of right predictions against their confidence; the table gives the numbers."
    heading = ["probabilities", "mean confidence", "right", "95 % interval", "rows"]
    return Chart("reliability", "Reliability", figure.svg(alt), note, heading, rows)


def roc(found: Rates, positive: str, auc: float | None) -> Chart:
    """Draw the ROC curve of two classes.

    Args:
        found: their rates.
        positive: name of the class that is looked for.
        auc: area under the curve.
    """
    x, y = (Axis(0, 1, f"{name} positive rate", ticks=SHARE) for name in ("false", "true"))
    figure = Figure(x, y)
    figure.line("middle", [0, 1], [0, 1])
    figure.line("l0 thick", [0, *found.false_positive_rate], [0, *found.recall])
    under = f"The area below it is {auc:.3f}. " if auc is not None else ""
    alt = "ROC curve of two classes; the table gives the numbers."
    note = f"{under}The class that is looked for: {positive}."
    return Chart("roc", "ROC curve", figure.svg(alt), note, *_rates_table(found))


def precision_recall(found: Rates, positive: str) -> Chart:
    """Draw precision against recall of two classes, of which `positive` is looked for."""
    figure = Figure(Axis(0, 1, "recall", ticks=SHARE), Axis(0, 1, "precision", ticks=SHARE))
    figure.line("l0 thick", [0, *found.recall], [found.precision[0], *found.precision])
    area = float(np.sum(np.diff([0, *found.recall]) * found.precision))
    alt = "Precision against recall of two classes; the table gives the numbers."
    note = f"Average precision is {area:.3f}. The class that is looked for: {positive}."
    return Chart("precision-recall", "Precision and recall", figure.svg(alt), note, *_rates_table(found))


def _rates_table(found: Rates) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    columns = (found.threshold, found.recall, found.false_positive_rate, found.precision)
    some = np.unique(np.linspace(0, len(found.recall) - 1, 25).astype(int)).tolist()
    heading = ["threshold", "true positive rate (recall)", "false positive rate", "precision"]
    return heading, [[f"{column[i]:.3f}" for column in columns] for i in some]


def feature_map(places: NDArray[np.float64], y: ArrayLike, names: Sequence[str], explained: float) -> Chart:
    """Draw features on their first two principal axes, coloured by class; of many classes the largest."""
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


def _leaderboard(found: Findings) -> Chart | None:
    sweep = found.run.sweep
    return leaderboard(sweep.trials, sweep.winner, sweep.settings.metric) if sweep else None


def _dense_nets(found: Findings) -> Chart | None:
    curves = {text.design(trial.to_dict()["design"]): trial.losses for trial in found.run.trials if trial.losses}
    loss = found.run.fitted.head.task_.loss
    title = "Dense nets of the sweep, on the rows that tell when to stop"
    return learning_curves(curves, "dense", title, loss) if curves else None


def _history(found: Findings) -> Chart | None:
    curves = {name: losses for name, losses in found.run.history.items() if losses}
    loss = found.run.fitted.head.task_.loss
    return learning_curves(curves, "history", "Learning curves of the head", loss) if curves else None


def _class_scores(found: Findings) -> Chart | None:
    return class_scores(found.of_classes.per_class) if found.of_classes else None


def _label_scores(found: Findings) -> Chart | None:
    measured = found.evaluation
    if not isinstance(measured, LabelEvaluation) or not any(each["support"] for each in measured.per_label):
        return None
    return label_scores(measured.per_label)


def _predicted(found: Findings) -> Chart | None:
    measured = found.evaluation
    if not isinstance(measured, NumberEvaluation) or found.answers is None:
        return None
    return predicted_against_true(found.answers.outcomes, measured.target, measured.half_width)


def _residuals(found: Findings) -> Chart | None:
    measured = found.evaluation
    if not isinstance(measured, NumberEvaluation) or found.answers is None:
        return None
    return residual_plot(found.answers.outcomes, measured.target, measured.half_width)


def _confusion(found: Findings) -> Chart | None:
    if (evaluation := found.of_classes) is None:
        return None
    if evaluation.confusion_matrix is not None:
        return confusion(evaluation.confusion_matrix, [entry["class"] for entry in evaluation.per_class])
    return mistakes(evaluation.confused, len(evaluation.per_class)) if evaluation.confused else None


def _reliability(found: Findings) -> Chart | None:
    return reliability_diagram(found.calibration) if found.calibration else None


def _roc(found: Findings) -> Chart | None:
    auc = found.of_classes.roc_auc if found.of_classes else None
    return roc(found.rates, found.run.fitted.class_names[1], auc) if found.rates else None


def _precision_recall(found: Findings) -> Chart | None:
    return precision_recall(found.rates, found.run.fitted.class_names[1]) if found.rates else None


def _map(found: Findings) -> Chart | None:
    if found.answers is None or found.audit is None:
        return None
    table, seen = found.answers.table, found.audit
    return feature_map(seen.plane, table.y[seen.rows[: len(seen.plane)]], table.class_names, seen.explained)


CHARTS: Sequence[tuple[str, Callable[[Findings], Chart | None]]] = (
    ("scores", _class_scores),
    ("scores", _label_scores),
    ("scores", _predicted),
    ("scores", _residuals),
    ("scores", _confusion),
    ("sweep", _leaderboard),
    ("calibration", _reliability),
    ("rates", _roc),
    ("rates", _precision_recall),
    ("curves", _dense_nets),
    ("curves", _history),
    ("features", _map),
)
"""Section of the page, and what draws a chart there, or gives None where there is nothing to draw; in their order."""


def draw_all(found: Findings) -> dict[str, list[Chart]]:
    """Draw what there is to draw, by section of the page."""
    drawn: dict[str, list[Chart]] = {section: [] for section, _ in CHARTS}
    for section, draw in CHARTS:
        if chart := draw(found):
            drawn[section].append(chart)
    return drawn
