"""Write what was found out about a data set as text: its learning curve, and the images to look at.

As :mod:`heads.console.text`, from the plain JSON types that ``--json`` prints.
"""

from typing import Any

from heads.console.text import LISTED, table


def curve(found: dict[str, Any]) -> str:
    """For ``featurestore curve``."""
    metric, points = found["metric"], found["points"]
    heading = ["images", metric, "95 % from", "to", *(m for m in points[0]["metrics"] if m != metric), "chosen"]
    shots = ["shots"] if points[0]["shots"] else []
    rows = [
        [*([p["shots"]] if shots else []), p["images"], p["value"], *p["interval"],
         *(v for m, v in p["metrics"].items() if m != metric), _chosen(p["chosen"])]
        for p in points
    ]  # fmt: skip
    lines = [table([*shots, *heading], rows), f"{found['head']}, {held_out(found)}, in {found['seconds']:.1f} s"]
    lines += [f"note: {note}" for note in found["notes"]]
    if law := found["law"]:
        parts = (f"{name} {mid:.3g} ({low:.3g} – {high:.3g})" for name, (mid, low, high) in law.items())
        lines.append(f"law: {metric} = a - b n^-c with {', '.join(parts)}")
        lines += ahead(found)
    lines += [f"page: {found['page']}"] if found.get("page") else []
    return "\n".join(lines)


def _chosen(found: dict[str, list[Any]]) -> str:
    """Name what the repeats chose: numbers from the least to the greatest, other values one by one."""
    parts = []
    for name, values in found.items():
        ends = [min(values), max(values)] if all(isinstance(value, int | float) for value in values) else values
        shown = dict.fromkeys(f"{each:.3g}" if isinstance(each, float) else str(each) for each in ends)
        parts.append(f"{name} {' – '.join(shown)}")
    return ", ".join(parts) or "-"


def held_out(found: dict[str, Any]) -> str:
    """Say what the points of a learning curve are measured on."""
    rows, repeats = found["held_rows"], len(found["points"][0]["repeats"])
    what = "rows, fold by fold," if found["held_out"] == "folds" else f"{found['held_out']} rows,"
    return f"measured on {rows:,} {what} never trained on; {repeats} training sets of each size"


def ahead(found: dict[str, Any]) -> list[str]:
    """Say what more images would give, and how sure that is: a sentence for each number of images."""
    return [_expected(found, told) for told in found["ahead"]]


def _expected(found: dict[str, Any], told: dict[str, Any]) -> str:
    last, metric, (low, high) = found["points"][-1], found["metric"].replace("_", " "), told["gain_interval"]
    factor = told["images"] / last["images"]
    many = "twice as many" if abs(factor - 2) < 0.02 else f"{factor:.2g} times as many"
    sentence = (
        f"{many} training images ({told['images']:,}) would give {metric} {told['value']:.3f} "
        f"({told['interval'][0]:.3f} – {told['interval'][1]:.3f}), {told['gain']:.3f} "
        f"{'less' if found['metric'] == 'log_loss' else 'more'} than the law says of {last['images']:,} ({low:.3f} – "
        f"{high:.3f}): with "
        "95 % certainty, if the power law goes on and further images are like these"
    )
    wide = high - low > 2 * max(told["gain"], 0.005)
    return sentence + ("; the points say too little to rely on it" if wide else "")


def looks(found: dict[str, Any]) -> str:
    """For ``featurestore look-at``."""
    rows = [
        [each["rank"], each["id"], each["split"], each["label"], each["score"], each["other"], each["other_label"],
         each["why"]]
        for each in found["looks"]
    ]  # fmt: skip
    heading = ["", "image", "split", "label", "score", "other", "other label", "why"]
    named = [i for i in range(len(heading)) if not rows or any(row[i] != "" for row in rows)]
    lines = [table([heading[i] for i in named], [[row[i] for i in named] for row in rows])] if rows else ["None."]
    lines += [f"note: {note}" for note in found["notes"]]
    lines.append(f"{len(rows):,} of {found['found']:,} among {found['compared']:,} images; score: {found['score']}")
    lines += [f"list: {found['out']}"] if found["out"] else []
    lines += [f"page: {found['page']}"] if found["page"] else []
    return "\n".join(lines)


def explanation(found: dict[str, Any]) -> str:
    """For ``featurestore explain``."""
    lines = [f"note: {note}" for note in found["notes"]]
    rows = [
        [image["path"], one["name"], one["probability"], one["score"], one["base"]]
        for image in found["images"][:LISTED]
        for one in image["classes"]
    ]
    lines += [table(["image", "class", "probability", "score", "base"], rows)] if rows else []
    lines += [f"… and {len(found['images']) - LISTED} more images"] if len(found["images"]) > LISTED else []
    lines += [f"{path}: {reason}" for path, reason in found["failures"][:LISTED]]
    return "\n".join([*lines, f"maps of {len(found['images'])} images: {found['path']}"])


def adapted(found: dict[str, Any]) -> str:
    """For ``featurestore adapt``."""
    before, shares = found["balance_before"] or {}, found["balance"]
    order = sorted(found["shift"], key=lambda name: -abs(found["shift"][name]))
    rows = [[name, before.get(name, "-"), shares[name], found["shift"][name]] for name in order[:LISTED]]
    lines = [table(["class", "share before", "share there", "log-odds shifted by"], rows)]
    if len(order) > LISTED:
        lines.append(f"… the largest shifts of {len(order):,} classes (see --json)")
    if now := found["after"]:
        told = (f"{name.replace('_', ' ')} {found['before'][name]:.3f} before, {now[name]:.3f} now" for name in now)
        lines.append(f"on the {found['rows']:,} labelled rows, each held out in turn: {'; '.join(told)}")
    parted = "" if found["threshold"] is None else f", threshold {found['threshold']:.3g}"
    lines.append(f"temperature {found['temperature']:.3f}{parted}")
    lines += [f"note: {note}" for note in found["notes"]]
    if found["left"]:
        lines.append(f"{found['left']:,} {found['split']} rows were not used:  evaluate  measures the new head on them")
    return "\n".join([*lines, f"adapted by {_BY[found['by']]}: {found['path']}"])


_BY = {"labels": "labelled rows", "stated": "a stated balance", "estimated": "an estimated balance"}
