"""Write results as text for a terminal, from the plain JSON types that ``--json`` prints: ``to_dict()`` of a result.

The texts in them are printable already, see :func:`heads.console.terminal.show`.
"""

import json
from pathlib import Path
from typing import Any


def table(heading: list[str], rows: list[list[Any]]) -> str:
    """Align rows of cells in columns, numbers to the right."""
    cells = [heading, *([f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [bool(rows) and isinstance(cell, int | float) for cell in rows[0]] if rows else [False] * len(heading)
    return "\n".join(
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in cells
    )


def backbones(rows: list[dict[str, Any]]) -> str:
    """For ``featurestore backbones``."""
    cells = [["?" if cell is None else cell for cell in row.values()] for row in rows]
    return table(["backbone", "input", "at least", "width", "weights", "licence"], cells)


def taps(rows: list[dict[str, Any]]) -> str:
    """For ``featurestore backbones NAME --taps``."""
    shapes = [" × ".join("?" if side is None else str(side) for side in row["shape"]) for row in rows]
    costs = ["?" if row["flops"] is None else f"{row['flops'] / 1e9:.3f}" for row in rows]
    cells = [[row["layer"], row["type"], shape, cost] for row, shape, cost in zip(rows, shapes, costs, strict=True)]
    return table(["layer", "type", "shape", "GFLOPs up to it"], cells)


def imported(found: dict[str, Any]) -> str:
    """For ``featurestore import-backbone``."""
    rows = [[name, " × ".join(map(str, shape))] for name, shape in found["outputs"].items()]
    lines = [table(["tap", "shape"], rows), *(f"note: {note}" for note in found["notes"])]
    lines.append(
        f"compared with PyTorch on {found['images']} images: largest relative difference {found['difference']:.1e}, "
        f"least cosine {found['cosine']:.7f}"
    )
    if found["pixel_difference"] is not None:
        lines.append(
            f"compared with its own preparation of them: {found['pixels_differing']:.2%} of the pixels differ, by "
            f"{found['pixel_difference']:.1f} of 255 at most; least cosine of the features {found['pixel_cosine']:.7f}"
        )
    licence = found["licence"] or "not stated"
    lines.append(f"{found['name']}, {found['size']} px, {found['resize']}, licence {licence}: {found['path']}")
    return "\n".join([*lines, f"next: featurestore extract FOLDER --store features --backbone {found['path']}"])


def verified(found: dict[str, list[str]]) -> str:
    """For ``featurestore verify``."""
    return "\n".join(f"{file}: intact" for file in found["intact"])


def _classes(classes: dict[str, dict[str, int]], splits: dict[str, int]) -> str:
    columns = list(next(iter(classes.values())))
    total = ["all", *(splits.get(column, 0) for column in columns)]
    return table(["class", *columns], [[name, *counts.values()] for name, counts in classes.items()] + [total])


def _remarks(found: dict[str, Any]) -> list[str]:
    lines = [f"note: {note}" for note in found["notes"]]
    lines += [f"passed over: {count} {reason}" for reason, count in found["skipped"].items()]
    failures = [tuple(f.values()) if isinstance(f, dict) else tuple(f) for f in found["failures"]]
    if failures:
        lines.append(f"{len(failures)} inputs gave no row:")
        lines += [f"  {path}: {reason}" for path, reason in failures[:10]]
        lines += [f"  … and {len(failures) - 10} more (see --json)"] if len(failures) > 10 else []
    return lines


def extraction(results: dict[str, Any] | list[dict[str, Any]]) -> str:
    """For ``featurestore extract``: one result, or a list of results for the same images."""
    several = results if isinstance(results, list) else [results]
    lines = [_classes(several[0]["classes"], several[0]["splits"]), *_remarks(several[0])]
    looks = len({result["look"] for result in several}) > 1
    for result in several:
        parts = [f"{result[key]} {key}" for key in ("computed", "resumed", "copied") if result[key]]
        views = f" and {result['views']} views" if result["views"] else ""
        done = ", ".join(parts) or "nothing to do"
        where = f"{result['path']} ({result['look']})" if looks else result["path"]
        lines.append(f"{result['rows']} rows{views} ({done}) in {result['seconds']:.1f} s: {where}")
    lines += _timing(several)
    if looks:
        return "\n".join([*lines, f"next: featurestore probe {Path(several[0]['path']).parent}"])
    return "\n".join([*lines, f"next: featurestore fit-head {several[-1]['path']} --out head"])


def _timing(results: list[dict[str, Any]]) -> list[str]:
    """Say where the time of a run went, if it computed anything."""
    timing, computed = results[0]["timing"], sum(result["computed"] for result in results)
    if not timing["total"]:
        return []
    seconds = "; ".join(
        f"{text} {timing[part]:.1f} s"
        for part, text in (("forward", "forward"), ("idle", "waiting for images"), ("write", "meanwhile: write"),
                           ("read", "read"), ("decode", "decode"))
    )  # fmt: skip
    return [f"{computed / timing['total']:.1f} rows/s: {seconds} (of all threads)"]


def inspection(found: dict[str, Any]) -> str:
    """For ``featurestore inspect``."""
    lines = [_classes(found["classes"], found["splits"]), *_remarks(found)]
    lines += [f"{found['groups']:,} groups, whose images stay together"] if found["groups"] else []
    lines.append("width {} to {} (median {}) pixels, height {} to {} (median {})".format(
        *(found[side][i] for side in ("width", "height") for i in (0, 2, 1))
    ))  # fmt: skip
    if found["duplicates"]:
        lines.append(f"{len(found['duplicates'])} images stand there more than once:")
        lines += [f"  {', '.join(group[:4])}" for group in found["duplicates"][:10]]
    return "\n".join(lines)


def info(files: list[dict[str, Any]]) -> str:
    """For ``featurestore info``."""
    return "\n\n".join(_file_text(file) for file in files)


def _asked(file: dict[str, Any]) -> str:
    """Say what is asked of the images of a file."""
    task, names = file.get("task"), file["classes"]
    if task is None:
        return f"{len(names)} classes"
    return f"{len(names)} labels ({task})" if len(names) > 1 else f"{next(iter(names))!r} ({task})"


def _file_text(file: dict[str, Any]) -> str:
    spec = file["spec"]
    features = "; ".join(
        f"{tap} {dtype} {' × '.join(map(str, shape))}" for tap, (dtype, *shape) in file["features"].items()
    )
    values = {
        "file": f"{file['path']} ({file['bytes'] / 2**20:.1f} MiB)",
        "data set": f"{file['dataset']}: {file['rows']} rows, {_asked(file)}",
        **({"shards": file["shards"]} if "shards" in file else {}),
        "features": features,
        "views": f"{file['views']['rows']} ({file['views']['augment']})" if file["views"]["rows"] else "none",
        "splits": ", ".join(f"{name} {count}" for name, count in file["splits"].items()),
        **({"numeric": ", ".join(file["columns"])} if file.get("columns") else {}),
        **({"groups": f"{file['groups']:,}"} if file["groups"] else {}),
        "backbone": f"{spec['backbone']}, weights {file['provenance']['weights']}, {spec['size']} px, {_look(spec)}",
        **{name: file["provenance"][name] for name in ("licence", "revision") if file["provenance"].get(name)},
        "fingerprint": file["fingerprint"],
        "made by": "; ".join(" ".join(f"{k} {v}" for k, v in p.items()) for p in file["provenance"]["producers"]),
        "failures": len(file["failures"]),
    }
    return "\n".join(f"{name + ':':<13}{value}" for name, value in values.items())


def _look(spec: dict[str, Any]) -> str:
    """Say how images were looked at: the resize rule, and the crops, of which one is not worth a word."""
    return f"{spec['resize']}" + (f", mean of {spec['crops']} crops" if spec.get("crops", 1) > 1 else "")


def fit(fitted: dict[str, Any]) -> str:
    """For ``featurestore fit-head``."""
    rows = [[split, fitted["rows"][split], *metrics.values()] for split, metrics in fitted["metrics"].items()]
    names = list(next(iter(fitted["metrics"].values()), ()))
    return "\n".join([
        *([table(["split", "rows", *names], rows)] if rows else []),
        f"{fitted['kind']} fitted in {fitted['seconds']:.2f} s: {fitted['path']}",
    ])  # fmt: skip


def probe(rows: list[dict[str, Any]]) -> str:
    """For ``featurestore probe``."""
    fixed = ["backbone", "tap", "width", "gflops", "images_per_second", "seconds", "file"]
    from heads.tasks.registry import METRICS

    metrics = [name for name in rows[0] if name in METRICS][:_PROBED]
    keys = [*fixed[:2], *metrics, *fixed[2:]]
    named = {"gflops": "GFLOPs", "images_per_second": "images/s", "macro_f1": "macro F1"}
    heading = [named.get(key, key.replace("_", " ")) for key in keys]
    return table(heading, [["?" if row.get(key) is None else row[key] for key in keys] for row in rows])


_PROBED = 3
"""Metrics of a tap that are printed."""
LISTED = 15
"""Trials of a sweep that are printed; its folder holds them all. Also the classes that are printed of thousands."""


def _seen(trial: dict[str, Any], trials: list[dict[str, Any]]) -> str:
    """Say how many rows a head of a sweep has seen, see :mod:`heads.search.halving`."""
    one_fold = trial["part"] and trial["rows"] == max(each["rows"] for each in trials)
    return f"{trial['rows']:,}{', one fold' * one_fold}"


def times(measured: int) -> str:
    """Say how often test rows were measured: heads that are chosen by them look better there than elsewhere."""
    return "measured once" if measured == 1 else f"measured {measured} times: each choice by it makes it too good"


def sweep(found: dict[str, Any]) -> str:
    """For ``featurestore sweep``."""
    metric, trials, winner = found["settings"]["metric"], found["trials"], found["winner"]
    several = len({trial["features"] for trial in trials}) > 1
    halved = ["rows"] if any(trial["part"] for trial in trials) else []
    heading = [
        "",
        *(["features"] if several else []),
        "head",
        metric,
        "± error",
        *halved,
        "seconds",
        "numbers",
        "stopped",
    ]
    chosen = next(i for i, trial in enumerate(trials) if trial["design"] == winner["design"]
                  and trial["features"] == winner["features"])  # fmt: skip
    rows = []
    for i, trial in enumerate(trials):
        if i < LISTED or i == chosen:
            cells = ["*" if i == chosen else i + 1, *([trial["features"]] if several else []), design(trial["design"])]
            values = [trial["mean"], trial["error"]] if trial["scores"] else ["-", "-"]
            values += [_seen(trial, trials)] if halved else []
            rows.append([*cells, *values, trial["seconds"], trial["size"], trial["stopped"][:60]])
    lines = [table(heading, rows)]
    if len(trials) > len(rows):
        lines.append(f"… and {len(trials) - len(rows)} more heads (see trials.jsonl)")
    lines += [f"note: {note}" for note in found["notes"]]
    if found["calibration"]:
        how = "calibrated {log_loss_after:.3f} (temperature {temperature:.2f})"
        if found["calibration"]["temperature"] == 1:
            better = found["calibration"]["log_loss_after"] < found["calibration"]["log_loss_before"]
            how = "calibrated {log_loss_after:.3f}" if better else "which no temperature makes better"
        lines.append(f"log loss on held-out rows: {{log_loss_before:.3f}}, {how}".format(**found["calibration"]))
    if test := found["test"]:
        name = "accuracy" if "accuracy" in test else metric
        bounds = " – ".join(f"{bound:.3f}" for bound in test["intervals"].get(name, ())) or "too few rows"
        value = f"{test[name]:.3f}" if name in test else "unknown"
        lines.append(f"test {name.replace('_', ' ')} {value} ({bounds}), {times(test.get('measured', 1))}")
    if together := found.get("ensemble"):
        lines.append(f"mean of the {len(together['members'])} best: accuracy {together['accuracy']:.3f}, "
                     f"log loss {together['log_loss']:.3f} on held-out rows")  # fmt: skip
    smaller = f", the smallest as good as the best ({design(trials[0]['design'])})" if chosen else ""
    lines.append(f"winner: {design(winner['design'])}{smaller}")
    return "\n".join([*lines, f"{len(trials)} heads in {found['seconds']:.1f} s: {winner['path']}"])


def design(found: dict[str, Any]) -> str:
    """Name a head in one line: its kind, and the hyperparameters that differ from their default."""
    from heads.kinds.design import ENSEMBLE, parameters

    if found["kind"] == ENSEMBLE:
        members = [design(json.loads(member)) for member in found["params"]["members"]]
        return f"mean of {len(members)} heads: {'; '.join(members)}"
    known = parameters(found["kind"])
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in found["params"].items()}
    differing = {name: value for name, value in values.items() if name not in known or value != known[name].default}
    return " ".join([found["kind"], *(f"{name}={_value(value)}" for name, value in differing.items())])


def _value(value: Any) -> str:
    match value:
        case tuple():
            return ",".join(map(str, value)) or "0"
        case float():
            return f"{value:.3g}"
        case _:
            return str(value)


def report(found: dict[str, Any]) -> str:
    """For ``featurestore report``."""
    lines = [f"note: {note}" for note in found["notes"]]
    lines += [f"{len(found['png'])} charts as PNG files: {Path(found['png'][0]).parent}"] if found["png"] else []
    return "\n".join([*lines, f"page ({found['bytes'] / 1e6:.1f} MB): {found['path']}"])


def finetune(found: dict[str, Any]) -> str:
    """For ``featurestore finetune``."""
    keys = ["epoch", "loss", "log_loss", "accuracy", "seconds"]
    history = [["-" if epoch[key] is None else epoch[key] for key in keys] for epoch in found["history"]]
    seconds, change = found["seconds"], found["difference"]
    low, high = change["interval"]
    split, rows = found["frozen"]["split"], found["frozen"]["rows"]
    behind = f"behind {found['boundary']}, cached in" if found["boundary"] else "on pixels, read in"
    compared, metric = [], "accuracy" if "accuracy" in found["frozen"] else "average_precision"
    for name in ("frozen", "finetuned"):
        bounds = " – ".join(f"{bound:.3f}" for bound in found[name]["intervals"].get(metric, ())) or "too few groups"
        compared.append([name, found[name][metric], bounds, found[name]["macro_f1"], found[name]["log_loss"]])
    p_value = change.get("p_value")
    test = f"{change['groups']} groups" if change.get("groups") else "McNemar's test"
    chance = "" if p_value is None else f" (p = {p_value:.2g}, {test})"  # runs of older versions
    lines = [
        table(["epoch", "training loss", "log loss", "accuracy", "seconds"], history),
        f"best: epoch {found['best_epoch']}",
        f"{behind} {seconds['material']:.1f} s; trained in {seconds['training']:.1f} s",
        "",
        table([f"{rows} {split} rows", metric.replace("_", " "), "95 % interval", "macro F1", "log loss"], compared),
        f"difference of accuracy {change['accuracy']:+.3f} ({low:+.3f} – {high:+.3f}): "
        f"{change['right']} rows became right, {change['wrong']} wrong{chance}",
        found["recommendation"],
    ]
    return "\n".join([*lines, *_remarks({"skipped": {}, "notes": []} | found), f"saved: {found['path']}"])


def demo(result: dict[str, Any]) -> str:
    """For ``featurestore demo``."""
    rows = []
    for head in result["heads"]:
        found = head["evaluation"]
        low, high = found["intervals"]["accuracy"]
        rows.append(
            [
                head["head"],
                found["accuracy"],
                f"{low:.3f} – {high:.3f}",
                found["macro_f1"],
                head["fit_seconds"],
                head["path"],
            ]
        )
    rows_text = table(["head", "test accuracy", "95 % interval", "macro F1", "seconds", "saved in"], rows)
    best = max(result["heads"], key=lambda head: head["evaluation"]["accuracy"])
    steps = extraction(result["extraction"]).rsplit("\n", 1)[0]  # without its hint at what comes next
    return f"{steps}\n\n{rows_text}\n\nnext: featurestore predict {best['path']} YOUR_IMAGES"


def exported(found: dict[str, Any]) -> str:
    """For ``featurestore export``."""
    lines = [f"{found['format']}, {found['bytes'] / 2**20:.1f} MiB: {found['path']}"]
    if "difference" in found:
        lines.append(
            f"run again on {found['images']} images: no probability differs from the head's by more than "
            f"{found['difference']:.1e}"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in found.get("notes", ()))])
