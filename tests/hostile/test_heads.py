"""Heads and runs from anybody: each ends in one line, at once, in little memory, and runs nothing."""

import json
import shutil
from pathlib import Path

import head_makers as make
import numpy as np
import pytest
from feature_files import write_features
from head_folders import COLUMNS, write_all
from head_makers import HEAD, IRREGULAR, MODEL, ROWS, WEIGHTS, document, setting
from measured import refused, run

from featurestore.errors import FeatureStoreError
from heads import evaluate, fit_head, load_head, sweep
from heads.metrics.evaluation import Evaluation
from heads.reporting.report import report
from heads.reporting.run_folder import open_run
from heads.search.probe import probe

ROOT = Path(__file__).parents[2]
MOST = 500
"""MB that a refused folder may take, Python and its libraries among them."""


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("good"))


@pytest.fixture
def folder(good, tmp_path):
    """Function: a copy of a good folder, to be spoilt."""
    return lambda name: Path(shutil.copytree(good / name, tmp_path / name))


LARGE = [
    ("logreg", HEAD, make.device, "not a regular file"),
    ("logreg", HEAD, make.swelling, "larger than 32 MiB"),
    ("logreg", HEAD, make.swelling_within_limits, "lists and objects"),
    ("logreg", HEAD, make.deep, "deep"),
    ("logreg", HEAD, make.sparse, "larger than 32 MiB"),
    ("logreg", HEAD, make.long_list, "of length"),
    ("logreg", WEIGHTS, make.device, "not a regular file"),
    ("logreg", WEIGHTS, make.extra_tensor, "holds a tensor 'more'"),
    ("logreg", WEIGHTS, make.wide_tensor, "lacks the tensor 'intercept'"),
    ("logreg", WEIGHTS, make.overlapping, "no safetensors file"),
    ("logreg", WEIGHTS, make.endless_header, "a header of more than"),
    ("logreg", WEIGHTS, make.header_of_many, "a header of more than"),
    ("logreg", ROWS, make.many_rows, "of memory"),
    ("logreg", ROWS, make.extra_tensor, "holds a tensor 'more'"),
    ("knn", MODEL, make.bomb, "compressed"),
    pytest.param(("knn", MODEL, make.padded_bomb, "compressed"), marks=pytest.mark.slow_hostile, id="knn-padded_bomb"),
    ("knn", MODEL, make.deep_schema, "deep"),
    pytest.param(
        ("knn", MODEL, make.swelling_schema, "more than"), marks=pytest.mark.slow_hostile, id="knn-swelling_schema"
    ),
    ("knn", MODEL, make.json_within_json, "JSON within JSON"),
    ("knn", MODEL, make.shared_bytes, "share their bytes"),
    pytest.param(("knn", MODEL, make.many_members, "more than"), marks=pytest.mark.slow_hostile, id="knn-many_members"),
    ("knn", MODEL, make.lying_array, ""),
    ("knn", MODEL, make.sparse, ""),
    ("run", "sweep.json", make.many_trials, "larger than 32 MiB"),
    pytest.param(("run", "sweep.json", make.trials_within_limits, "winner"), marks=pytest.mark.slow_hostile),
    ("run", "sweep.json", make.device, "not a regular file"),
    ("tuned", "finetune.json", make.swelling, "larger than 32 MiB"),
]


AGE = {"name": "age", "codes": [], "mean": 0.0, "scale": 1.0}


def case(given):
    return "-".join(part if isinstance(part, str) else part.__name__ for part in given[:3])


@pytest.mark.parametrize("given", LARGE, ids=case)
def test_nothing_large_is_read(good, folder, tmp_path, given):
    name, file, maker, fragment = given
    path = folder(name) / file
    maker(path)
    command = ("evaluate", path.parent, good / "f.h5") if name in ("logreg", "knn") else (
        "report", path.parent, "--out", tmp_path / "page.html")  # fmt: skip
    code, _, lines, peak = run(*command)
    assert (code, len(lines)) == (1, 1), lines
    assert str(path) in lines[0] and fragment in lines[0]
    assert peak < MOST


@pytest.mark.slow_hostile
def test_as_many_trials_as_may_be_take_little_memory(good, folder):
    path = folder("run")
    make.many_lines(path / "trials.jsonl")
    code, _, lines, peak = run("sweep", good / "f.h5", "--out", path, "--space", good / "space.toml", "--cv", 3)
    assert (code, len(lines)) == (1, 1) and str(path / "trials.jsonl") in lines[0] and peak < MOST, peak


def test_as_many_rows_as_may_be_take_little_memory(good, folder):
    path = folder("logreg")
    make.rows_within_limits(path / ROWS)
    code, _, lines, peak = run("evaluate", path, good / "f.h5")
    assert (code, lines) == (0, []) and peak < MOST


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("name", ["logreg/head.json", "logreg/weights.safetensors", "logreg/rows.safetensors",
                                  "knn/model.skops", "run/sweep.json", "tuned/finetune.json"])  # fmt: skip
def test_no_file_is_waited_for(folder, name, kind):
    parent, file = name.split("/")
    path = folder(parent) / file
    IRREGULAR[kind](path)
    refused(lambda: open_run(path.parent), path, "symlink loop" if kind == "loop" else "not a regular file")


@pytest.mark.parametrize("kind", IRREGULAR)
def test_no_list_is_waited_for(good, folder, tmp_path, kind):
    spoil = IRREGULAR[kind]
    measured = folder("logreg") / "measured.jsonl"
    spoil(measured)
    refused(lambda: evaluate(measured.parent, good / "f.h5"), measured, "delete it")
    log = folder("run") / "trials.jsonl"
    spoil(log)
    refused(lambda: sweep(good / "f.h5", log.parent, space=good / "space.toml"), log, "delete it")
    space = tmp_path / "space.toml"
    spoil(space)
    refused(lambda: sweep(good / "f.h5", tmp_path / "new", space=space), space)
    if kind != "loop":
        refused(lambda: fit_head(good / "f.h5", out=measured.parent), measured.parent, "not a regular file")


OF_ANY_TYPE = [None, True, -1, 1.5, 2**62, 10**30, float("nan"), float("inf"), 1e308, "", "text", [], {}, [[]], [{}]]
FIELDS = [
    "format", "format_version", "kind", "params", "class_names", "classes", "width", "temperature", "inputs", "history",
    "dataset", "rows", "views", "metrics", "seconds", "seed", "versions", "fitted_on", "chosen_by",
]  # fmt: skip
FINE = {
    ("params", "{}"), ("history", "{}"), ("rows", "{}"), ("metrics", "{}"), ("versions", "{}"), ("fitted_on", "[]"),
    ("chosen_by", "[]"), ("dataset", '""'), ("dataset", '"text"'), ("temperature", "1.5"), ("seconds", "1.5"),
    ("seconds", "-1"), ("seed", str(2**62)), ("seed", str(10**30)), ("seconds", str(2**62)), ("seconds", str(10**30)),
    ("temperature", str(2**62)), ("temperature", str(10**30)),
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_of_a_head_has_its_type(good, folder, field):
    path = folder("logreg")
    text = (path / HEAD).read_text()
    for value in OF_ANY_TYPE:
        (path / HEAD).write_text(text)
        document(path / HEAD, setting(field, to=value))
        if (field, json.dumps(value)) in FINE:
            evaluate(path, good / "f.h5")
        else:
            refused(lambda: load_head(path), path / HEAD)


@pytest.mark.parametrize(
    ("name", "change", "fragment"),
    [
        ("logreg", setting("class_names", to="abc"), "`array`, got `str`"),
        ("logreg", setting("class_names", to={"a": 1, "b": 2, "c": 3}), "`array`, got `object`"),
        ("logreg", setting("class_names", to=["a", "b", "a"]), "class names"),
        ("logreg", setting("inputs", to=[]), "no inputs, and no numeric columns"),
        ("logreg", setting("numeric", to=[AGE]), "version 1 with 1 numeric"),
        ("logreg", setting("format_version", to=2), "version 2 with 0 numeric columns"),
        ("logreg", setting("numeric", to=[AGE | {"scale": 0.0}]), ">= 1e-30"),
        ("logreg", setting("numeric", to=[AGE | {"codes": ["F"] * 3}]), "length <= 2"),
        ("logreg", setting("format_version", to=-1), "upgrade"),
        ("logreg", setting("format_version", to=0), "upgrade"),
        ("logreg", setting("classes", to=[0, 1, 10**9]), "class names"),
        ("logreg", setting("classes", to=[-1, 0, 1]), ">= 0"),
        ("logreg", setting("width", to=COLUMNS + 1), "coef is"),
        ("logreg", setting("width", to=2**40), "coef is"),
        ("logreg", setting("width", to=2**62), "width"),
        ("logreg", setting("temperature", to=1e308), "temperature"),
        ("logreg", setting("history", to={"train": [1e308]}), "history"),
        ("logreg", setting("fitted_on", to=["trained"]), "fitted_on"),
        ("logreg", setting("kind", to="k" * 10**6), "length <= 200"),
        ("logreg", setting("params", to={"C": ["x" * 10**6]}), "takes no C="),
        ("logreg", setting("params", to={"C": "1\n2"}), "takes no C=1 2"),
        ("dense", setting("params", "hidden", to=[65_536] * 3), ""),
        ("dense", setting("params", "hidden", to=[1] * 100_000), "takes no hidden"),
        ("dense", setting("params", "hidden", to=["a"]), "takes no hidden"),
        ("several/winner", setting("params", "members", to=[]), "members"),
        ("several/winner", setting("params", "members", to="[" * 10**5), "members"),
        ("several/winner", lambda v: setting("params", "members", to=v["params"]["members"][:1] * 1001)(v), "members"),
        ("several/winner", lambda v: setting("params", "members", to=v["params"]["members"][:1] * 1000)(v), ""),
        ("several/winner", lambda v: setting("params", "members", to=[json.dumps(
            {"kind": "ensemble", "params": {"members": v["params"]["members"]}})] * 2)(v), "members"),
    ],
)  # fmt: skip
def test_a_head_that_was_altered(folder, name, change, fragment):
    path = folder(name.split("/")[0]) / Path(*name.split("/")[1:])
    document(path / HEAD, change)
    refused(lambda: load_head(path), path, fragment)


@pytest.mark.parametrize("maker", [make.other_types, make.other_shapes, make.header_of_garbage])
@pytest.mark.parametrize("file", [WEIGHTS, ROWS])
def test_tensors_that_were_altered(folder, file, maker):
    path = folder("logreg") / file
    maker(path)
    refused(lambda: load_head(path.parent), path)


@pytest.mark.parametrize(
    ("maker", "fragment"),
    [
        (make.doubled_member, "of one name"),
        (make.other_class, "KNeighborsRegressor"),
        (make.other_loader, "MethodNode"),
        (make.array_of_objects, "array of objects"),
    ],
)
def test_archives_that_were_altered(folder, maker, fragment):
    path = folder("knn") / MODEL
    maker(path)
    refused(lambda: load_head(path.parent), path, fragment)


def test_weights_larger_than_memory_are_refused_by_their_numbers(folder, monkeypatch):
    monkeypatch.setattr("heads.storage.state_file.memory_limit", lambda: 50)
    path = folder("logreg")
    refused(lambda: load_head(path), path / WEIGHTS, "take 108 bytes of memory, and 50 bytes may be used")


SWEEP = [
    ("settings",), ("settings", "metric"), ("settings", "cv"), ("settings", "space"), ("settings", "seed"),
    ("settings", "views"), ("settings", "sampler"), ("settings", "ensemble"), ("settings", "smallest"), ("trials",),
    ("trials", 0), ("trials", 0, "design"), ("trials", 0, "design", "kind"), ("trials", 0, "design", "params"),
    ("trials", 0, "scores"), ("trials", 0, "scores", "accuracy"), ("trials", 0, "mean"), ("trials", 0, "error"),
    ("trials", 0, "seconds"), ("trials", 0, "size"), ("trials", 0, "stopped"), ("trials", 0, "losses"),
    ("trials", 0, "parts"), ("trials", 0, "cut"), ("trials", 0, "features"), ("winner",), ("winner", "design"),
    ("ensemble",), ("calibration",), ("calibration", "temperature"), ("test",), ("test", "accuracy"),
    ("test", "intervals"), ("test", "intervals", "accuracy"), ("test", "confusion_matrix"), ("test", "per_class"),
    ("test", "per_class", 0), ("test", "per_class", 0, "class"), ("test", "per_class", 0, "recall_interval"),
    ("test", "rows"), ("test", "split"), ("notes",), ("seconds",), ("features",),
]  # fmt: skip


def one_page_or_one_line(folder, file, page):
    """A page, or an error of one line that names the file."""
    try:
        report(folder, page)
    except FeatureStoreError as error:
        assert str(folder / file) in str(error) and len(str(error).splitlines()) == 1, error
        return False
    return True


@pytest.mark.parametrize("place", SWEEP, ids=lambda place: ".".join(map(str, place)))
def test_a_sweep_that_was_altered(folder, tmp_path, place):
    path = folder("several")
    text = (path / "sweep.json").read_text()
    for value in OF_ANY_TYPE:
        (path / "sweep.json").write_text(text)
        document(path / "sweep.json", setting(*place, to=value))
        one_page_or_one_line(path, "sweep.json", tmp_path / "page.html")


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda values: values["trials"].append(values["trials"][0]), "winner"),
        (setting("winner", "features", to="other"), "winner"),
        (setting("trials", 0, "losses", to=[1e308, -1e308]), "losses"),
        (setting("test", "confusion_matrix", to=[[1, 2], [3]]), "confusion matrix"),
        (setting("test", "confusion_matrix", 0, to=[1, 2, 2**70]), "confusion_matrix"),
        (setting("test", "intervals", to={"more": [0, 1]}), "intervals"),
        (setting("test", "per_class", 0, to={"class": "a", "precision": 1, "recall": 1, "f1": 1, "support": 3}),
         "recall_interval"),
        (setting("test", "threshold", to={name: {"threshold": 1, "log_odds": 700, "value": 1, "at_half": 0}
                                          for name in ("accuracy", "balanced_accuracy")} | {"optimistic": True}),
         "threshold"),
        (setting("trials", 0, "design", "params", to={"hidden": [1]}), "no hyperparameter"),
    ],
)  # fmt: skip
def test_a_sweep_whose_parts_do_not_fit(folder, change, fragment):
    path = folder("run") / "sweep.json"
    document(path, change)
    refused(lambda: open_run(path.parent), path, fragment)


def test_a_design_too_large_to_build_can_be_shown(folder, tmp_path):
    """Nothing is built of it."""
    path = folder("run")
    dense = next(i for i, t in enumerate(json.loads((path / "sweep.json").read_text())["trials"])
                 if t["design"]["kind"] == "dense")  # fmt: skip
    document(path / "sweep.json", setting("trials", dense, "design", "params", "hidden", to=[65_536] * 3))
    assert one_page_or_one_line(path, "sweep.json", tmp_path / "page.html")


TUNED = [
    ("history",), ("history", 1, "loss"), ("history", 1, "log_loss"), ("difference",), ("difference", "interval"),
    ("difference", "p_value"), ("frozen",), ("frozen", "intervals"), ("finetuned",), ("finetuned", "log_loss"),
    ("seconds",), ("seconds", "training"), ("notes",), ("failures",), ("settings",), ("settings", "epochs"),
    ("settings", "seed"), ("recommendation",), ("boundary",), ("best_epoch",), ("path",),
]  # fmt: skip


@pytest.mark.parametrize("place", TUNED, ids=lambda place: ".".join(map(str, place)))
def test_a_fine_tuned_model_that_was_altered(folder, tmp_path, place):
    path = folder("tuned")
    text = (path / "finetune.json").read_text()
    for value in OF_ANY_TYPE:
        (path / "finetune.json").write_text(text)
        document(path / "finetune.json", setting(*place, to=value))
        one_page_or_one_line(path, "finetune.json", tmp_path / "page.html")


LINES = [b"", b"{", b"[]", b"1", b"null", b'{"sweep": 1}', b"[" * 10**6, b'{"split": 1}', b"\xff", b'{"design": {}}']


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:20].decode("latin-1"))
def test_lines_that_were_altered(good, folder, line):
    measured, log = folder("logreg") / "measured.jsonl", folder("run") / "trials.jsonl"
    measured.write_bytes(line + b"\n" + measured.read_bytes())
    refused(lambda: evaluate(measured.parent, good / "f.h5"), measured, "delete it")
    first, *rest = log.read_bytes().splitlines(keepends=True)
    for lines in ([line + b"\n", *rest], [first, line + b"\n", *rest]):
        log.write_bytes(b"".join(lines))
        refused(lambda: sweep(good / "f.h5", log.parent, space=good / "space.toml"), log, "delete it")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (f'[[heads]]\nkind = "dense"\nhidden = {{ choice = [[{"65536, " * 3}]] }}', "numbers of its weights"),
        (f'[[heads]]\nkind = "dense"\nhidden = {{ choice = [[{"1, " * 1000}]] }}', "takes no hidden"),
        ('[[heads]]\nkind = "ensemble"', "heads[0].kind"),
        ("a = " + "[" * 10_000 + "]" * 10_000, "no readable search space"),
        ("a." * 500_000 + "a = 1", "no readable search space"),
        ("#" * 2**21, "larger than"),
        ("\x00", "no readable search space"),
        ('[[heads]]\nkind = "logreg"\nC = 2020-01-01', "heads[0].C"),
    ],
    ids=lambda text: text[:40],
)
def test_spaces_that_ask_for_too_much(good, tmp_path, text, fragment):
    space = tmp_path / "space.toml"
    space.write_text(text)
    with pytest.raises(FeatureStoreError) as caught:
        sweep(good / "f.h5", tmp_path / "run", space=space)
    assert fragment in str(caught.value) and len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 1500


COMMANDS = {
    "evaluate": ("evaluate", "HEAD", "FILE"),
    "predict": ("predict", "HEAD", "IMAGES"),
    "report": ("report", "HEAD", "--features", "FILE", "--out", "OUT"),
    "export": ("export", "HEAD", "--format", "onnx", "--out", "OUT"),
    "finetune": ("finetune", "HEAD", "IMAGES", "--out", "OUT"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_in_one_line(good, images, folder, tmp_path, command):
    path = folder("logreg")
    names = {"HEAD": path, "FILE": good / "f.h5", "IMAGES": images, "OUT": tmp_path / "out.onnx"}
    make.fifo(path / WEIGHTS)
    code, _, lines, peak = run(*(names.get(part, part) for part in COMMANDS[command]))
    assert (code, len(lines)) == (1, 1) and str(path / WEIGHTS) in lines[0], lines
    assert peak < MOST or command == "export"  # which has TensorFlow in memory


def test_a_spoilt_head_can_be_replaced(good, folder):
    path = folder("logreg")
    for name in (HEAD, WEIGHTS, ROWS):
        make.fifo(path / name)
    fit_head(good / "f.h5", out=path)
    assert load_head(path).design.kind == "logreg"


def test_an_evaluation_is_described_as_it_is():
    from heads.documents import EvaluationDocument

    assert sorted(EvaluationDocument.__annotations__) == sorted(Evaluation.__dataclass_fields__)


def test_answers_that_are_no_numbers_are_refused(good, folder):
    path = folder("logreg")
    document(path / HEAD, setting("temperature", to=1e-30))
    head, huge = load_head(path), np.full((2, COLUMNS), 9e14, np.float32)
    refused(lambda: head.predict_proba(huge), path, "no numbers")
    refused(lambda: head.outcomes(huge, [0, 1]), path, "no numbers")


SPOILT = {
    "nan": (lambda X: np.where(np.arange(len(X))[:, None] == 7, np.nan, X), "features hold NaN"),
    "huge": (lambda X: X * np.float32(1e20), "beyond 1e+15"),
    "infinite": (lambda X: X + np.float32(np.inf), "features hold NaN"),
    "none": (lambda X: X[:, :0], "no columns"),
    "wide": (lambda X: np.hstack([X, X]), "rows of 16 features"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_features_that_are_no_features(good, tmp_path, name):
    spoil, fragment = SPOILT[name]
    X, splits = np.ones((40, COLUMNS), np.float32), np.resize(["train", "train", "validation", "test"], 40)
    file = write_features(tmp_path / "f.h5", spoil(X), np.resize([0, 1], 40), splits, class_names=["a", "b"])
    refused(lambda: evaluate(good / "knn", file), file, fragment)
    refused(lambda: report(good / "knn", tmp_path / "page.html", features=file), file, fragment)
    if name not in ("wide", "nan"):
        for attempt in (lambda: fit_head(file), lambda: sweep(file, tmp_path / "run"), lambda: probe(file)):
            refused(attempt, file, fragment)


def test_views_of_another_width(tmp_path):
    X = np.ones((8, COLUMNS), np.float32)
    file = write_features(
        tmp_path / "f.h5", X, [0, 1] * 4, ["train"] * 8, class_names=["a", "b"], views=X[:2, :3], view_rows=[0, 1]
    )
    refused(lambda: fit_head(file), file, "another shape than rows")
