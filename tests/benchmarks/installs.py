"""Size on disk and import times of the two installations, each in a fresh virtual environment.

python tests/benchmarks/installs.py [--runs 5]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORTS = {
    "featurestore": ("import featurestore", "import heads", "from heads import fit_head; import sklearn.linear_model"),
    "featurestore[extract]": (
        "import featurestore",
        "from featurestore import extract",
        "from featurestore.system.keras import import_keras; import_keras('')",
    ),
}


def median_seconds(python: Path, code: str, runs: int) -> float:
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run([python, "-c", code], check=True, cwd=tempfile.gettempdir())
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print("| installation | seconds to install | MiB on disk | code | median seconds |\n|---|---|---|---|---|")
    for name, codes in IMPORTS.items():
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder) / "venv" / "bin" / "python"
            subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
            start = time.perf_counter()
            target = f"{ROOT}{name.removeprefix('featurestore')}"
            subprocess.run([python, "-m", "pip", "install", "-q", target], check=True)
            seconds = time.perf_counter() - start
            size = sum(p.lstat().st_size for p in python.parents[1].rglob("*")) / 2**20
            for code in ("pass", *codes):
                took = median_seconds(python, code, options.runs)
                print(f"| {name} | {seconds:.0f} | {size:,.0f} | `{code}` | {took:.2f} |")


if __name__ == "__main__":
    main()
