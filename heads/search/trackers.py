"""Trackers: the trials of a sweep are written for TensorBoard's page HParams, or for MLflow."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featurestore.errors import HeadError, missing, suggest
from heads.search.results import SUMMARY, SweepResult

TRACKERS = {"tensorboard": "TensorBoard", "mlflow": "MLflow"}
"""Scheme of an address, which is also the name of the extra that it needs -> name of the library."""


class _Tracked(NamedTuple):
    """A trial as trackers hold it. Its name depends on all its settings, so that writing it again replaces it."""

    name: str
    params: dict[str, bool | float | str]
    metrics: dict[str, float]


def check_tracker(address: str) -> None:
    """Check that trials can be written to an address.

    Raises:
        HeadError: no such tracker.
        MissingDependencyError: its extra is not installed.
    """
    scheme, _, place = address.partition(":")
    if scheme not in TRACKERS or not place:
        hint = suggest(scheme, TRACKERS) if scheme not in TRACKERS else "where to?"
        raise HeadError(f"--track {address}: {hint} Write  tensorboard:FOLDER  or  mlflow:sqlite:///FILE.db")
    if find_spec(scheme) is None:
        raise missing(f"--track {scheme}", TRACKERS[scheme], scheme)


def track(found: SweepResult, address: str) -> None:
    """Write hyperparameters, scores, error, seconds, size and rows of each trial, and the test metrics of the winner.

    The tracker shows them under the name of the sweep's folder. Trials that were written before are replaced, so that
    a sweep that went on can be tracked again.

    Args:
        found: what the sweep returned.
        address: ``tensorboard:FOLDER``, or ``mlflow:URI`` with any tracking URI of MLflow, such as
            ``mlflow:sqlite:///runs.db``.

    Raises:
        HeadError: no such tracker; or it fails.
        MissingDependencyError: its extra is not installed.
    """
    check_tracker(address)
    folder = found.path.resolve()
    scheme, _, place = address.partition(":")
    write = _tensorboard if scheme == "tensorboard" else _mlflow
    try:
        write(place, folder.name, list(_tracked(found)), (folder / SUMMARY).stat().st_mtime)
    except Exception as error:  # each library has errors of its own, and of those that it uses
        reason = str(error).strip().split("\n")[0]
        raise HeadError(
            f"{address}: the trials of {folder} are not all there ({reason}): the sweep itself is finished; "
            "run its command again to track them"
        ) from error


def _tracked(found: SweepResult) -> Iterator[_Tracked]:
    settings = found.settings.to_dict()
    for trial in found.trials:
        values = trial.to_dict()
        design = values["design"]
        text = json.dumps([settings, trial.features, design], sort_keys=True)
        params = {"features": trial.features, "kind": design["kind"]}
        for name, value in design["params"].items():
            params[name] = (",".join(map(str, value)) or "0") if isinstance(value, list) else value
        means = {name: float(np.mean(folds)) for name, folds in trial.scores.items()}
        numbers = ("error", "seconds", "size", "rows")
        metrics = means | {name: values[name] for name in numbers if values[name] is not None}
        if found.test and trial is found.winner:
            metrics |= {f"test_{name}": value for name, value in found.test.metrics().items()}
        metrics = {name: value for name, value in metrics.items() if np.isfinite(value)}
        yield _Tracked(f"{design['kind']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}", params, metrics)


def _tensorboard(place: str, sweep: str, runs: Sequence[_Tracked], time: float) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.record_writer import RecordWriter  # the writer above it imports TensorFlow

    for run in runs:
        folder = Path(place, sweep, run.name)
        folder.mkdir(parents=True, exist_ok=True)
        summary = hparams_pb(run.params, trial_id=run.name, start_time_secs=time)
        summary.value.extend(Summary.Value(tag=name, simple_value=value) for name, value in run.metrics.items())
        with (folder / "events.out.tfevents.sweep").open("wb") as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=time, file_version="brain.Event:2").SerializeToString())
            writer.write(Event(wall_time=time, summary=summary).SerializeToString())


def _mlflow(place: str, sweep: str, runs: Sequence[_Tracked], time: float) -> None:
    import logging

    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    for library in ("mlflow", "alembic"):  # a new file's tables are reported one by one
        logging.getLogger(library).setLevel(logging.WARNING)
    client, now = MlflowClient(tracking_uri=place), round(1000 * time)
    experiment = client.get_experiment_by_name(sweep)
    number = experiment.experiment_id if experiment else client.create_experiment(sweep)
    known = {run.info.run_name: run.info.run_id for run in client.search_runs([number], max_results=50_000)}
    for run in runs:
        key = known.get(run.name) or client.create_run(number, start_time=now, run_name=run.name).info.run_id
        metrics = [Metric(name, value, now, 0) for name, value in run.metrics.items()]
        client.log_batch(key, metrics, [Param(name, str(value)) for name, value in run.params.items()])
        client.set_terminated(key, end_time=now)
