"""The guarantee: after kill -9 at any instant a re-run loses at most the batch in flight, every row that was reported
done is kept, and the finished file is byte-identical to an uninterrupted run.

``pytest tests/extraction/test_kill.py --kills 300`` kills more often than the default.
"""

import json
import math
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from pictures import write_images

BATCH = 4
UNREADABLE = 2
SCRIPT = Path(__file__).with_name("extracting.py")


def start(source: Path, store: Path, views: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(source), str(store), str(BATCH), str(views)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(source: Path, store: Path, views: int = 0) -> dict:
    process = start(source, store, views)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1].removeprefix("result "))


def files(store: Path) -> dict[str, bytes]:
    """What must be the same however a run went: not the log, who locked last, and caches of what was seen when."""
    passing = (".jsonl", "LOCK", ".stamps", ".memo")
    return {p.name: p.read_bytes() for p in store.iterdir() if not p.name.endswith(passing)}


@dataclass
class Chain:
    """One store, extracted into and killed again and again; each time it gets finished, it starts from the beginning.

    `beginning` is what the store holds before: nothing, or a file of a smaller data set, without views. `owed` is how
    many rows the next run may still have to compute, by what the last one reported before it was killed.
    """

    source: Path
    beginning: Path
    store: Path
    views: int
    expected: dict[str, bytes]
    rng: random.Random
    kills: int = 0
    finished: int = 0
    kills_while_extracting: int = 0
    kills_while_publishing: int = 0
    owed: float = math.inf

    def go(self, kills: int) -> "Chain":
        self.reset()
        while self.kills < kills or not self.finished:
            # Once the feature file is there, one run is left alone, and what it leaves is compared as a whole.
            self.step(kill=self.kills < kills and not self.published())
        return self

    def reset(self) -> None:
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.copytree(self.beginning, self.store)
        self.owed = math.inf

    def published(self) -> bool:
        """Whether the finished file is there. At any instant there is the old state of it or the new one, whole."""
        found, before, after = (
            {name: content for name, content in state.items() if name.endswith(".h5")}
            for state in (files(self.store), files(self.beginning), self.expected)
        )
        assert found in (before, after)
        return found == after

    def step(self, kill: bool) -> None:
        process = start(self.source, self.store, self.views)
        try:
            if kill:
                self.kill(process)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
            process.wait()
        if process.returncode == 0:
            assert files(self.store) == self.expected
            self.finished += 1
            self.reset()
        else:
            assert kill and process.returncode == -9, err

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Most kills hit the extraction, at a random row; the others the publication that follows it."""
        while_publishing, moment, total = self.rng.random() < 0.3, None, 0
        for line in process.stdout:
            if not line.startswith("extracting"):
                continue
            last, total = map(int, line.split()[1:])
            if moment is None:
                assert total - last <= self.owed, f"{self.owed} were left to do, now {total - last}"
                moment = total if while_publishing else self.rng.randint(last, total)
            self.owed = total - last + UNREADABLE * (1 + self.views)  # at which every run looks anew
            if last >= moment:
                time.sleep(self.rng.uniform(0, 1.0 if last == total else 0.03))
                process.kill()
                self.kills += 1
                self.kills_while_extracting += last < total
                self.kills_while_publishing += last == total
                return


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """100 images, among them duplicates and two that cannot be decoded."""
    folder = write_images(tmp_path_factory.mktemp("source") / "colours", 32)
    for name in ("blue", "green"):
        (folder / name / "broken.png").write_bytes((folder / name / "0-000.png").read_bytes()[:900])
        shutil.copy(folder / name / "0-001.png", folder / name / "again.png")
    return folder


def grown_from(source: Path, tmp: Path) -> Path:
    """A store that holds the file of an earlier, smaller state of the source."""
    smaller = tmp / "earlier" / source.name
    shutil.copytree(source, smaller, ignore=lambda folder, names: [n for n in names if n.startswith("0-01")])
    run(smaller, tmp / "beginning")
    return tmp / "beginning"


def test_kill_9_at_random_moments(source, tmp_path, request):
    kills = request.config.getoption("--kills")
    seed = request.config.getoption("--kill-seed")
    empty, grown = tmp_path / "empty", grown_from(source, tmp_path)
    empty.mkdir()
    chains = []
    for views, beginning in enumerate((empty, grown)):
        whole = tmp_path / f"whole{views}"
        shutil.copytree(beginning, whole)
        result = run(source, whole, views)
        assert result["rows"] == 98 and len(result["failures"]) == UNREADABLE
        chains.append(
            Chain(source, beginning, tmp_path / f"store{views}", views, files(whole), random.Random(f"{seed}-{views}"))
        )
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda chain: chain.go((kills + 1) // 2), chains))
    killed = sum(chain.kills for chain in done)
    print(
        f"\n{killed} processes killed: {sum(c.kills_while_extracting for c in done)} while extracting, "
        f"{sum(c.kills_while_publishing for c in done)} while publishing; "
        f"{sum(c.finished for c in done)} finished files compared"
    )
    assert killed >= kills
    assert all(chain.finished for chain in done)
    assert sum(chain.kills_while_extracting for chain in done) and sum(chain.kills_while_publishing for chain in done)
