"""Tell what a head was made with, and the commands that make it again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featurestore.backbones import is_outside, named
from featurestore.spec import backbone_names
from featurestore.store.file_format import TABULAR
from featurestore.store.reader import FeatureStore
from heads.feature_table import Input
from heads.reporting.run_folder import RunFolder
from heads.search.results import SweepSettings
from heads.search.space import PRESETS
from heads.storage.saved_head import FittedHead


def origin(run: RunFolder, stores: Sequence[FeatureStore]) -> list[list[str]]:
    """List what a head was made with, in the order in which it was made: pairs of a name and a text.

    Args:
        run: the head, and how it was found.
        stores: its feature files, as far as they are there.
    """
    fitted = run.fitted
    found = [["data set", fitted.dataset]]
    found.append(["rows", ", ".join(f"{split} {count:,}" for split, count in fitted.rows.items())])
    for store in stores:
        makers = ("; ".join(f"{k} {v}" for k, v in maker.items()) for maker in store.producers)
        found.append(["feature file", f"{store.path.name}, content {store.content_digest}"])
        found.append(["made by", " | ".join(makers) or "unknown"])
    for item in fitted.inputs:
        spec = item.spec
        how = f"{spec.size} px, {spec.framing.look}, {spec.interpolation}, {spec.preprocessing}, {spec.dtype}"
        weights = f"weights {item.weights} ({spec.weights_digest[:16]}…)"
        found.append(["features", f"{spec.backbone}.{item.tap}: {how}, {weights}, fingerprint {item.fingerprint}"])
    for each in fitted.numeric:
        coded = "".join(f", {code} = {i}" for i, code in enumerate(each.column.codes))
        found.append(["numeric", f"{each.column.name}: mean {each.mean:.6g}, deviation {each.scale:.6g}{coded}"])
    sweep, tuning = run.sweep and run.sweep.settings.to_dict(), run.tuning and run.tuning["settings"]
    for name, settings in (("sweep", sweep), ("fine-tuning", tuning)):
        if settings:
            given = (f"{setting} {value}" for setting, value in settings.items() if value is not None)
            found.append([name, ", ".join(given)])
    found.append(["head", " ".join([fitted.design.kind, *(f"{k}={v}" for k, v in fitted.design.params.items())])])
    times = f"in {fitted.seconds:.2f} s, seed {fitted.seed}, {fitted.views:,} views"
    found.append(["fitted", f"{times}, temperature {fitted.head.temperature_:.3f}"])
    found.append(["versions", ", ".join(f"{name} {version}" for name, version in fitted.versions.items())])
    return found


def commands(run: RunFolder, features: str, stores: Sequence[FeatureStore], source: str) -> list[str]:
    """Write the commands that extract the features, fit the head and measure it again.

    Args:
        run: the head, and how it was found.
        features: feature file or folder.
        stores: its feature files, as far as they are there.
        source: the folder of the images.
    """
    fitted, where = run.fitted, str(run.fitted.path or "head")
    views = {store.fingerprint: store for store in stores}
    folder = str(Path(features).parent if stores and Path(features) == stores[0].path else features)
    numbers = [part for column in (stores[0].columns if stores else ()) for part in ("--column", column.name)]
    lines = [
        ["extract", source, "--store", folder, *_extraction(item, views.get(fingerprint)), *numbers]
        for fingerprint, item in {item.fingerprint: item for item in fitted.inputs}.items()
    ]
    if run.tuning:
        lines.insert(0, ["finetune", "HEAD_DIR", source, "--out", str(run.path), *_tuning(run.tuning["settings"])])
    elif run.sweep:
        tables = len({trial.features for trial in run.trials})
        options = [*(_chosen(fitted) if tables == 1 else []), *_sweep(run.sweep.settings)]
        if sampler := run.sweep.settings.sampler:
            options += ["--sampler", sampler, "--trials", str(len(run.trials) // tables)]
        lines.append(["sweep", features, "--out", str(run.path), *options])
    else:
        settings = [part for setting in fitted.design.settings() for part in ("--set", setting)]
        plain = ["--plain"] if stores and len(stores[0].view_rows) and not fitted.views else []
        options = [*_chosen(fitted), *settings, *plain, *_seed(fitted.seed), "--out", where]
        lines.append(["fit-head", features, "--head", fitted.design.kind, *options])
    lines.append(["evaluate", where, features])
    return [shlex.join(["featurestore", *line]) for line in lines]


def _chosen(fitted: FittedHead) -> list[str]:
    """Name the taps of a head, where its files have others too."""
    several = len({item.fingerprint for item in fitted.inputs}) > 1
    if not several and not fitted.numeric and all(len(item.spec.taps) == 1 for item in fitted.inputs):
        return []
    called = backbone_names([item.spec for item in fitted.inputs])
    names = [f"{name}.{item.tap}" if several else item.tap for name, item in zip(called, fitted.inputs, strict=True)]
    return ["--features", "+".join([*names, *([TABULAR] if fitted.numeric else [])])]


def _extraction(item: Input, store: FeatureStore | None) -> list[str]:
    spec = item.spec
    name, weights = named(spec.backbone, item.weights)
    parts = ["--backbone", name, "--size", str(spec.size)]
    if weights not in ("", "imagenet"):
        parts += ["--weights", weights]
    if is_outside(name):
        parts += ["--preprocessing", spec.preprocessing]
    for tap in spec.taps:
        parts += ["--tap", f"{tap.layer}={tap.pool}"]
    usual = {
        "resize": "squash", "interpolation": "bilinear", "crop_share": 1.0, "dtype": "float32", "precision": "float32",
        "decoder": "pillow", "crops": 1,
    }  # fmt: skip
    for name, value in usual.items():
        if getattr(spec, name) != value:
            parts += [f"--{name.replace('_', '-')}", str(getattr(spec, name))]
    if store is not None and len(store.view_rows):
        parts += ["--views", str(int(store.view_numbers.max())), "--augment", store.augment]
    return parts


def _sweep(settings: SweepSettings) -> list[str]:
    parts = ["--preset" if settings.space in PRESETS else "--space", settings.space, "--metric", settings.metric]
    parts += ["--cv", str(settings.cv or 0)]
    parts += ["--ensemble", str(settings.ensemble)] if settings.ensemble > 1 else []
    parts += ["--smallest"] if settings.smallest else []
    parts += ["--exhaustive"] if settings.exhaustive else []
    parts += [] if settings.threshold is None else ["--threshold", str(settings.threshold)]
    parts += ["--novelty"] if settings.novelty else []
    if settings.group_near_duplicates is not None:
        parts += ["--group-near-duplicates", f"{settings.group_near_duplicates:g}"]
    parts += [] if settings.views else ["--plain"]
    return parts + _seed(settings.seed)


def _tuning(settings: Mapping[str, Any]) -> list[str]:
    names = ("unfreeze", "epochs", "learning_rate", "patience", "batch_size", "augment", "views", "dtype")
    given = {name: settings[name] for name in names if settings.get(name) is not None}
    parts = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return parts + ([] if settings.get("cache", True) else ["--no-cache"]) + _seed(settings.get("seed"))


def _seed(seed: Any) -> list[str]:
    return ["--seed", str(seed)] if seed else []
