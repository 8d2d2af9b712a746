"""The command line in a process of its own, and the most memory that it had."""

import os
import subprocess
import sys
from typing import NamedTuple

from test_docs import ROOT

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
