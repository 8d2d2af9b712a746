"""The command line in a process of its own, from this source tree."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def featurestore(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"COLUMNS": "100", "TERM": "dumb"} | environment
    code = "import sys; sys.argv[0] = 'featurestore'; from cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def modules_imported_by(code, *arguments):
    """Run in a new interpreter; return the top-level names of the modules it imported."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; {code}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())
