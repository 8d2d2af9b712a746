"""Write evaluations as text for a terminal, from their plain JSON types."""

import math
from collections.abc import Callable
from typing import Any

from heads.console.text import LISTED, table, times


def seen(how: str) -> str:
    """Say in a sentence that a head knows the rows that it is measured on; see :mod:`heads.storage.record`."""
    from heads.storage.record import FITTED

    if how == FITTED:
        return "The head was fitted on these rows."
    return "The head was chosen, or stopped, by these rows."


def evaluation(found: dict[str, Any]) -> str:
    """For ``featurestore evaluate``."""
    metrics = [[name, found[name], *found["intervals"][name]] for name in found["intervals"]]
    metrics += [[name, found[name], reason, ""] for name, reason in found.get("without_interval", {}).items()]
    about = []
    if how := found.get("seen"):
        about.append(f"note: {seen(how)} These figures say little about other images.")
    if left_out := found.get("left_out"):
        about.append(f"note: {left_out} {found['split']} rows are left out: the head was fitted on them")
    if groups := found.get("groups"):
        about.append(f"the rows are of {groups:,} groups, and intervals as wide as that makes them")
    about += [f"note: {name} was not measured: {why}" for name, why in found.get("unmeasured", {}).items()]
    if size := found.get("set_size"):
        about.append(f"sets of level {found['level']:g} have {size:.2f} classes on average")
    if parted := found.get("parted_at"):
        second = found["per_class"][1]["class"]
        about.append(f"the head says {second} from a probability of {parted:.3g} on")
    if measured := found.get("measured"):
        about.append(f"these rows were {times(measured)}")
    remarks = [f"note: {note}" for note in found.get("shift", [])] + threshold(found)
    return "\n\n".join([
        *(["\n".join(about)] if about else []),
        table([f"{found['split']} ({found['rows']} rows)", "value", "95 % from", "to"], metrics),
        *next(parts(found) for key, parts in _PARTS.items() if key in found),
        *(["\n".join(remarks)] if remarks else []),
    ])  # fmt: skip


def _classes(found: dict[str, Any]) -> list[str]:
    classes = [[c["class"], c["precision"], c["recall"], c["f1"], c["support"]] for c in found["per_class"]]
    if "confusion_matrix" not in found:
        return [_worst(classes), *_mistakes(found)]
    return [table(["class", "precision", "recall", "f1", "rows"], classes), _matrix(found)]


def _labels(found: dict[str, Any]) -> list[str]:
    keys = ["label", "average_precision", "roc_auc", "precision", "recall", "f1", "threshold", "support"]
    heading = [{"support": "rows"}.get(key, key.replace("_", " ")) for key in keys]
    rows = [["-" if each.get(key) is None else each[key] for key in keys] for each in found["per_label"]]
    none = f"{found['unlabelled']:,} rows have no label" if found.get("unlabelled") else ""
    return [table(heading, rows), *([none] if none else [])]


def _number(found: dict[str, Any]) -> list[str]:
    if (half := found.get("half_width")) is None:
        return []
    return [
        f"{found['target']}: in {100 * found.get('level', 0.95):.6g} of 100 cases within {half:.4g} of the "
        f"prediction, by rows that were held out; of these rows {found['covered']:.1%} are"
    ]


_PARTS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "per_class": _classes, "per_label": _labels, "target": _number,
}  # fmt: skip
"""A field that evaluations of one task have -> what is said behind the metrics."""


def _matrix(found: dict[str, Any]) -> str:
    names = [c["class"] for c in found["per_class"]]
    rows = [[name, *row] for name, row in zip(names, found["confusion_matrix"], strict=True)]
    return "rows: true class, columns: predicted class\n" + table(["", *names], rows)


def _worst(classes: list[list[Any]]) -> str:
    """Write the worst classes, where there are thousands."""
    known = sorted((row for row in classes if row[-1]), key=lambda row: (row[2], row[0]))
    shown = table(["class", "precision", "recall", "f1", "rows"], known[:LISTED])
    return f"{shown}\n… the worst of {len(known):,} classes that have rows, of {len(classes):,} in all (see --json)"


def _mistakes(found: dict[str, Any]) -> list[str]:
    """Write the most frequent mistakes, where a matrix would have thousands of rows."""
    shown = [[pair["class"], pair["predicted"], pair["rows"]] for pair in found.get("confused", [])[:LISTED]]
    title = f"the most frequent mistakes (a matrix of {len(found['per_class']):,} classes is left out)"
    return [f"{title}\n{table(['true class', 'predicted as', 'rows'], shown)}"] if shown else []


def threshold(found: dict[str, Any]) -> list[str]:
    """Say from which probability on two classes are best told apart; say nothing where 0.5 is as good."""
    best = {} if "parted_at" in found else found.get("threshold") or {}
    name = found["per_class"][1]["class"] if best else ""
    lines = [
        f"{metric.replace('_', ' ')} would be {best[metric]['value']:.3f} and not {best[metric]['at_half']:.3f} "
        f"if rows were {name} from a probability of {_probability(best[metric]['log_odds'])} on, and not of 0.5"
        for metric in ("accuracy", "balanced_accuracy")
        if best and best[metric]["value"] > best[metric]["at_half"]
    ]
    return lines + (["these thresholds were chosen on the same rows: on others they are worth less"] if lines else [])


def _probability(log_odds: float) -> str:
    """Write a probability, given as its log-odds, so that one next to 0 or 1 keeps its digits."""
    below = 1 / (1 + math.exp(abs(log_odds)))
    if below >= 0.001:
        return f"{1 / (1 + math.exp(-log_odds)):.3f}"
    return f"{below:.1e}" if log_odds < 0 else f"1 - {below:.1e}"
