"""Where a head comes from: what it was made with, and the commands that make it again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featurestore.spec import ExtractionSpec
from featurestore.store import FeatureStore
from heads.data import Input
from heads.persist import FittedHead
from heads.spaces import PRESETS


def origin(fitted: FittedHead, stores: Sequence[FeatureStore], settings: Mapping[str, Any] | None) -> dict[str, str]:
    """What a head was made with, in the order of its making; texts by name.

    Args:
        fitted: the head.
        stores: its feature files, as far as they are there.
        settings: of the sweep that it won, if it did.
    """
    found: dict[str, str] = {"data set": fitted.dataset}
    found["rows"] = ", ".join(f"{split} {count:,}" for split, count in fitted.rows.items())
    for store in stores:
        found[f"feature file {store.path.name}"] = f"content {store.content_digest}"
        makers = ("; ".join(f"{k} {v}" for k, v in maker.items()) for maker in store.producers)
        found[f"made by ({store.path.name})"] = " | ".join(makers)
    for item in fitted.inputs:
        spec = item.spec
        found[f"features {spec.backbone}.{item.tap}"] = (
            f"{spec.size} px, {spec.resize}, {spec.preprocessing}, {spec.dtype}, weights {item.weights} "
            f"({spec.weights_digest[:16]}…), fingerprint {item.fingerprint}"
        )
    if settings:
        found["sweep"] = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    found["head"] = " ".join([fitted.design.kind, *(f"{k}={v}" for k, v in fitted.design.params.items())])
    found["fitted"] = f"in {fitted.seconds:.2f} s, seed {fitted.seed}, {fitted.views:,} views, temperature "
    found["fitted"] += f"{fitted.head.temperature_:.3f}"
    found["versions"] = ", ".join(f"{name} {version}" for name, version in fitted.versions.items())
    return found


def commands(
    fitted: FittedHead,
    features: str,
    stores: Sequence[FeatureStore],
    source: str | None,
    sweep: Mapping[str, Any] | None,
) -> list[str]:
    """The commands that extract the features, fit the head and measure it again.

    Args:
        fitted: the head.
        features: feature file or folder.
        stores: its feature files, as far as they are there.
        source: the folder of the images, if it was given.
        sweep: what the sweep returned, if there was one.
    """
    taken = {item.fingerprint: item for item in fitted.inputs}
    views = {store.fingerprint: store for store in stores}
    folder = str(Path(features).parent if stores and Path(features) == stores[0].path else features)
    lines = [
        ["extract", source or "SOURCE", "--store", folder, *_extraction(item, views.get(fingerprint))]
        for fingerprint, item in taken.items()
    ]
    tap = "+".join(item.tap if len(taken) == 1 else f"{item.spec.backbone}.{item.tap}" for item in fitted.inputs)
    several = len(fitted.inputs) > 1 or any(len(item.spec.taps) > 1 for item in fitted.inputs)
    chosen = ["--features", tap] if several else []
    where = str(fitted.path or "head")
    if sweep:
        if len({trial["features"] for trial in sweep["trials"]}) > 1:
            chosen = []
        run = str(fitted.path.parent if fitted.path else "run")
        lines.append(["sweep", features, "--out", run, *chosen, *_sweep(sweep["settings"])])
    else:
        settings = [part for setting in fitted.design.settings() for part in ("--set", setting)]
        plain = ["--plain"] if stores and len(stores[0].view_rows) and not fitted.views else []
        seed = ["--seed", str(fitted.seed)] if fitted.seed else []
        lines.append(
            ["fit-head", features, "--head", fitted.design.kind, *chosen, *settings, *plain, *seed, "--out", where]
        )
    lines.append(["evaluate", where, features])
    return [shlex.join(["featurestore", *line]) for line in lines]


def _extraction(item: Input, store: FeatureStore | None) -> list[str]:
    spec, default = item.spec, ExtractionSpec("", "", (), 0, "squash", "", "float32")
    own_file = spec.backbone if not item.weights.endswith(".keras") else item.weights
    parts = ["--backbone", own_file, "--size", str(spec.size)]
    if own_file == spec.backbone and item.weights not in ("", "imagenet"):
        parts += ["--weights", item.weights]
    elif own_file != spec.backbone:
        parts += ["--preprocessing", spec.preprocessing]
    for tap in spec.taps:
        parts += ["--tap", f"{tap.layer}={tap.pool}"]
    for name in ("resize", "dtype", "precision", "decoder"):
        if getattr(spec, name) != getattr(default, name):
            parts += [f"--{name}", getattr(spec, name)]
    if store is not None and len(store.view_rows):
        parts += ["--views", str(int(store.view_numbers.max())), "--augment", store.augment]
    return parts


def _sweep(settings: Mapping[str, Any]) -> list[str]:
    space = str(settings["space"])
    parts = ["--preset" if space in PRESETS else "--space", space, "--metric", str(settings["metric"])]
    parts += ["--cv", str(settings["cv"])] if settings["cv"] else []
    parts += [] if settings["views"] else ["--plain"]
    return parts + (["--seed", str(settings["seed"])] if settings["seed"] else [])
