"""How attempts end: in one line; and what a command takes, in a process of its own."""

import os
import subprocess
import sys
from typing import NamedTuple

import pytest
from commands import ROOT

from featurestore.errors import FeatureStoreError

_CODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
from cli import main
try: main()
finally: print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""
# Not ru_maxrss: a process begins with that of the one that started it.


class Run(NamedTuple):
    """How a command ended: exit code, standard output, lines of standard error, peak of memory in MB."""

    code: int
    out: str
    lines: list[str]
    peak: float


def run(*arguments: object) -> Run:
    """Run ``featurestore`` with these arguments; after 300 s it fails."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *map(str, arguments)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    *lines, peak, _ = done.stderr.split("\n")[:-1]
    return Run(done.returncode, done.stdout, [line for line in lines if line], int(peak.split()[1]) / 1000)


def refused(attempt, where, fragment=""):
    """Check that an attempt ends in one line that names the file and says why, in one of the words between bars."""
    with pytest.raises(FeatureStoreError) as caught:
        attempt()
    text = str(caught.value)
    assert str(where) in text and any(part in text for part in fragment.split("|")), text
    assert len(text.splitlines()) == 1 and len(text) < 2000, text
    return caught.value
