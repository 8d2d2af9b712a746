"""Trials as TensorBoard's page HParams and MLflow read them."""

import json
import sys
from dataclasses import replace
from types import ModuleType

import pytest
from cases import linear
from commands import featurestore, modules_imported_by

from featurestore.errors import HeadError, MissingDependencyError
from heads.kinds.design import HeadDesign
from heads.search import trackers
from heads.search.sweep import sweep
from heads.search.trackers import track


@pytest.fixture(scope="module")
def swept(digits_file, tmp_path_factory):
    """A sweep with one head that could not be fitted."""
    out = tmp_path_factory.mktemp("tracked") / "flowers run"
    space = out.parent / "space.toml"
    space.write_text("[[heads]]\nkind = 'lda'\n[[heads]]\nkind = 'knn'\nn_neighbors = 5\n"
                     "[[heads]]\nkind = 'dense'\nhidden = [[], [16, 8]]\nepochs = 2\n")  # fmt: skip
    found = sweep(digits_file, out, space=space, cv=3)
    [knn] = [trial for trial in found.trials if trial.design.kind == "knn"]
    failed = replace(knn, design=HeadDesign("knn", {**knn.design.params, "n_neighbors": 500}),
                     scores={}, mean=float("nan"), error=float("nan"), stopped="error: why")  # fmt: skip
    return replace(found, trials=[*found.trials, failed])


def plain(params):
    """Texts and numbers, whatever types a tracker has."""
    texts = {name: ",".join(map(str, v)) or "0" if isinstance(v, list) else str(v) for name, v in params.items()}
    return {name: float(v) if v[0].isdigit() and "," not in v else v for name, v in texts.items()}


def check(swept, runs):
    """That runs, as pairs of params and metrics, say what the trials of a sweep do."""
    found = swept.to_dict()
    assert len(runs) == len(found["trials"]) == 5
    for trial in found["trials"]:
        design = trial["design"]
        expected = {"features": trial["features"], "kind": design["kind"], **design["params"]}
        (metrics,) = [metrics for params, metrics in runs if plain(params) == plain(expected)]
        assert metrics["seconds"] == pytest.approx(trial["seconds"], abs=1e-5) and metrics["size"] == trial["size"]
        assert metrics["rows"] == trial["rows"] == 480
        if trial["mean"] is None:
            assert metrics.keys() == {"seconds", "size", "rows"}
            continue
        assert metrics["accuracy"] == pytest.approx(trial["mean"], abs=1e-6)
        assert metrics["error"] == pytest.approx(trial["error"], abs=1e-6)
        assert metrics["macro_f1"] == pytest.approx(sum(trial["scores"]["macro_f1"]) / 3, abs=1e-6)
        won = design == found["winner"]["design"]
        measures = {f"test_{name}" for name in found["test"]["intervals"] if won}
        assert {name for name in metrics if name.startswith("test_")} == measures
        if won:
            assert metrics["test_accuracy"] == pytest.approx(found["test"]["accuracy"], abs=1e-6)


def hparams(folder):
    """What TensorBoard's page HParams shows, by its own code."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.api_pb2 import STATUS_UNKNOWN, ListSessionGroupsRequest
    from tensorboard.plugins.hparams.backend_context import Context
    from tensorboard.plugins.hparams.list_session_groups import Handler

    events = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(events, str(folder))))
    wish = ListSessionGroupsRequest(slice_size=100, include_metrics=True, allowed_statuses=[STATUS_UNKNOWN])
    groups = Handler(RequestContext(), context, "", wish).run().session_groups
    return [
        (
            {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()},
            {metric.name.tag: metric.value for metric in group.metric_values},
        )
        for group in groups
    ]


@pytest.fixture
def without_tensorflow(monkeypatch):
    """TensorBoard reads without it, when it finds this module; that is faster."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))


def test_tensorboard_shows_all_trials(swept, tmp_path, without_tensorflow):
    for _ in range(2):  # the second replaces the first
        track(swept, f"tensorboard:{tmp_path / 'logs'}")
    check(swept, hparams(tmp_path / "logs"))


def test_mlflow_shows_all_trials(swept, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DO_NOT_TRACK", "true")  # tests use no network
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    for _ in range(2):
        track(swept, f"mlflow:{uri}")
    assert capfd.readouterr() == ("", "")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("flowers run")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    check(swept, [(run.data.params, run.data.metrics) for run in runs])


def test_tracking_leaves_tensorflow_alone(swept, tmp_path):
    code = "from pathlib import Path; from heads.reporting.run_folder import open_run; "
    code += "from heads.search.trackers import track; track(open_run(Path(sys.argv[1])).sweep, sys.argv[2])"
    loaded = modules_imported_by(code, swept.path, f"tensorboard:{tmp_path}")
    assert "tensorboard" in loaded and not loaded & {"tensorflow", "keras", "mlflow"}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tensorbord:logs", "did you mean 'tensorboard'"),
        ("logs", "Write  tensorboard:FOLDER"),
        ("tensorboard:", "where to"),
    ],
)
def test_wrong_addresses_are_refused_before_the_sweep(digits_file, tmp_path, address, message):
    with pytest.raises(HeadError, match=message):
        sweep(digits_file, tmp_path / "out", preset="quick", trackers=[address])
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"featurestore\[mlflow\]"):
        trackers.check_tracker("mlflow:sqlite:///runs.db")


def test_a_tracker_that_fails_leaves_the_sweep(digits_file, tmp_path, monkeypatch):
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    space, out = linear(tmp_path / "s.toml", "lda"), tmp_path / "out"
    for address in ("tensorboard:/dev/null/logs", "mlflow:sqlite:////dev/null/runs.db"):
        with pytest.raises(HeadError, match=r"the sweep itself is finished"):
            sweep(digits_file, out, space=space, trackers=[address])
        assert len(json.loads((out / "sweep.json").read_text())["trials"]) == 1
        (out / "sweep.json").unlink()


def test_command(digits_file, tmp_path, without_tensorflow):
    space = linear(tmp_path / "s.toml", "lda", "centroid")
    wish = ("sweep", str(digits_file), "--out", str(tmp_path / "out"), "--space", str(space), "--json")
    done = featurestore(*wish, *(f"--track=tensorboard:{tmp_path / name}" for name in "ab"))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["trials"]) == 2
    for name in "ab":
        assert len(hparams(tmp_path / name)) == 2
