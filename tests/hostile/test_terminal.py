"""What a terminal, a pipe or a full disk gets to see: never a control character, never a traceback."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from feature_files import SPEC, write_features
from pictures import write_images

from featurestore.__main__ import INTERRUPTED
from featurestore.errors import StoreError
from featurestore.spec import Tap
from heads import fit_head
from heads.console import terminal

ESCAPES = "\x1b]0;owned\x07\x1b]52;c;cm0gLXJm\x07\x1b[2J\r\u202e"
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
NOT_UTF8 = os.fsdecode(b"caf\xe9")


def command(*arguments, stdout=subprocess.PIPE, **environment):
    """The command as a process: exit code, and what it wrote, in bytes."""
    code = "import sys; sys.argv[0] = 'featurestore'; from cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=BUFFERED | environment, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A feature file, a head and a sweep whose every name commands the terminal."""
    work = tmp_path_factory.mktemp("escapes")
    names = [f"{ESCAPES}{name}\n" for name in "ab"]
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    y = np.arange(40) % 2
    splits = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    taps = {f"{ESCAPES}1": X, f"{ESCAPES}2": X}
    file = write_features(
        work / f"{ESCAPES}.h5", taps, y, splits, class_names=names,
        spec=replace(SPEC, backbone=f"{ESCAPES}net", taps=tuple(map(Tap, taps))),
    )  # fmt: skip
    fit_head(file, "centroid", tap=f"{ESCAPES}1", out=work / "head")
    return work, file


@pytest.mark.parametrize("as_json", [False, pytest.param(True, marks=pytest.mark.slow_hostile)])
def test_no_name_commands_the_terminal(hostile, as_json):
    work, file = hostile
    options = ["--json"] if as_json else []
    for arguments in (
        ["info", file], ["probe", file], ["verify", file], ["evaluate", work / "head", file],
        ["sweep", file, "--out", work / f"run{as_json}", "--preset", "quick", "--features", f"{ESCAPES}1"],
        ["report", work / "head", "--out", work / "page.html", "--features", file],
        ["info", work / f"{ESCAPES}nothing.h5"], ["evaluate", work / f"{ESCAPES}nothing", file],
        ["inspect", work / f"{ESCAPES}nothing"],
    ):  # fmt: skip
        done = command(*arguments, *options, PYTHONIOENCODING="utf-8:strict")
        written = (done.stdout + done.stderr).decode()
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", written), arguments
        assert "Traceback" not in written and (done.returncode == 0) == (b"error" not in done.stderr), written


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_names_that_a_terminal_cannot_show(tmp_path, encoding):
    images = write_images(tmp_path / NOT_UTF8, 4, (NOT_UTF8, "猫"))
    (images / "猫" / f"{NOT_UTF8}.png").write_text("no image")
    done = command("inspect", images, PYTHONIOENCODING=encoding)
    assert done.returncode == 3 and rb"\udce9" in done.stdout and b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], ["--help"], ["--version"]])
def test_standard_output_on_a_full_disk(hostile, arguments):
    _, file = hostile
    with Path("/dev/full").open("w") as full:
        done = command(*arguments, *([file] if "info" in arguments else []), stdout=full)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert os.strerror(errno.ENOSPC).encode() in done.stderr


def test_what_waits_in_the_buffer_of_standard_output():
    """Help texts are not flushed by whoever prints them."""
    code = "from heads.console import terminal; terminal.run(lambda: print('x'))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], env=BUFFERED, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_devices_stay_devices(hostile):
    work, file = hostile
    for arguments in (["export", file, "--format", "npz", "--out", "/dev/null"], ["report", work / "head", "--out"]):
        out = [] if "npz" in arguments else ["/dev/null"]
        done = command(*arguments, *out)
        assert done.returncode == 1 and b"not a regular file" in done.stderr and len(done.stderr.splitlines()) == 1
    assert Path("/dev/null").is_char_device()


def ended(capsys, error_of):
    """What `terminal.run` says of a command, and its exit code."""
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as caught:
            terminal.run(error_of)
    finally:
        signal.signal(signal.SIGINT, before)
    return caught.value.code, capsys.readouterr().err


def test_an_interruption_that_a_library_makes_another_error_of(capsys):
    """OpenVINO calls Python while it converts a network, and whatever comes out of there is a failed conversion."""

    def convert():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except BaseException as error:
            raise RuntimeError("Conversion is failed\n" * 100) from error

    code, said = ended(capsys, convert)
    assert code == INTERRUPTED and said.startswith("interrupted") and len(said.splitlines()) == 1


def raising(error):
    def fail():
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreError("a\x1b[2J\nb"), "error: a\\x1b[2J\\nb"),
        (OSError(errno.ENOSPC, "No space left on device", "x.tmp"), "error: x.tmp: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "error: x: permission denied"),
        (MemoryError("Unable to allocate 87 TiB"), "error: not enough memory (Unable to allocate 87 TiB)"),
    ],
)
def test_errors_of_the_machine_are_one_line(capsys, error, said):
    code, text = ended(capsys, raising(error))
    assert code == 1 and text.startswith(said) and len(text.splitlines()) == 1


def test_control_c_before_the_command_begins():
    """Python itself, and nothing of ours, is what starts before the handler stands."""
    code = (
        "import featurestore.__main__ as m, signal, os, time; m.signal.signal(signal.SIGINT, m._leave); "
        "print('ready', flush=True); time.sleep(30)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED and said == "interrupted: nothing was begun\n"


def test_the_handler_stands_before_anything_is_imported():
    code = "import featurestore.__main__, sys; sys.exit(bool({'numpy', 'h5py', 'typer'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
