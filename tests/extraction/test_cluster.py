"""Extraction by several processes: whoever dies, nothing is lost or doubled; the file is that of a single one."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from pictures import write_images

from featurestore import ArraySource, backbones, extract, open_source
from featurestore.backbones import Request
from featurestore.errors import FeatureStoreError, MissingDependencyError, SourceError, StoreError, WeightsError
from featurestore.extraction import cluster
from featurestore.extraction.extract import extract_all
from featurestore.extraction.job import Job, prepare
from featurestore.extraction.plan import make_plan
from featurestore.store.file_format import file_in
from featurestore.store.journal import Journal, journal_path

OPTIONS = {"size": 96, "batch_size": 4, "views": 3, "engine": "keras"}
WORKERS = re.compile(r"\.[0-9a-f]{12}\.journal$")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """97 images, one of which cannot be decoded."""
    folder = write_images(tmp_path_factory.mktemp("source") / "colours", 32)
    (folder / "red" / "broken.png").write_bytes((folder / "red" / "0-000.png").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def alone(source, tmp_path_factory):
    """The file of a single process."""
    return extract(source, tmp_path_factory.mktemp("alone"), **OPTIONS)


@pytest.fixture
def address(tmp_path):
    """A Dask cluster of two workers, each in a process of its own; and those processes."""
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", *arguments]
        with (tmp_path / f"dask{len(started)}.log").open("w") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log))
        return started[-1]

    start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", "scheduler.json")
    for _ in range(2):
        start("worker", "--scheduler-file", "scheduler.json", "--nthreads", "1", "--no-nanny", "--no-dashboard")
    from dask.distributed import Client

    wait_for((tmp_path / "scheduler.json").exists)
    with Client(scheduler_file=str(tmp_path / "scheduler.json"), set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client.scheduler.address
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def writer(store: Path) -> tuple[int, Path] | None:
    """A worker process that has rows in its journal, and that journal."""
    journals = [path for path in store.glob("*.journal") if WORKERS.search(path.name)]
    if any(path.stat().st_size > 30_000 for path in journals):
        for process in psutil.Process().children(recursive=True):
            for file in map(Path, (file.path for file in process.open_files())):
                if file in journals and file.stat().st_size > 30_000:
                    return process.pid, file
    return None


def extract_and_kill_one(source: Path, store: Path, address: str):
    """One of two workers is killed as soon as it has rows."""
    reports, killed, finished = [], [], threading.Event()

    def kill_one() -> None:
        while not (found := writer(store)):
            if finished.is_set():
                return
            time.sleep(0.005)
        pid, journal = found
        os.kill(pid, signal.SIGKILL)
        with Journal(journal, read_only=True) as rows:
            killed.append((len(rows), reports[-1]))

    killer = threading.Thread(target=kill_one)
    killer.start()
    result = extract(source, store, cluster=address, **OPTIONS, progress=lambda *report: reports.append(report))
    finished.set()
    killer.join()
    ((rows, (_, done, total)),) = killed
    assert rows and done < total
    return result


def shards(source: ArraySource | Path, store: Path, networks: dict[str, str], batch_size: int) -> list[cluster.Shard]:
    """The tasks of a run, as workers get them."""
    requests = [Request(name, weights, 32, "avg", ("last",), None) for name, weights in networks.items()]
    return shards_of(source, store, requests, batch_size)


def shards_of(source: ArraySource | Path, store: Path, requests: list[Request], batch_size: int) -> list[cluster.Shard]:
    store.mkdir()
    opened = open_source(source) if isinstance(source, Path) else source
    jobs = []
    for backbone in map(backbones.load, requests):
        dataset, spec = opened.dataset(), backbone.spec()
        plan = make_plan(file_in(store, dataset.name, spec), store, dataset, spec)
        jobs.append(Job(backbone, spec, plan, lock=-1))
    works = prepare(jobs, opened, batch_size, "keras")
    return pickle.loads(pickle.dumps(list(cluster._shards(works, requests, opened, workers=2))))


def check_same(result, alone):
    assert result.path.read_bytes() == alone.path.read_bytes()
    assert result.rows == alone.rows and result.views == alone.views
    assert result.computed + result.resumed == alone.computed and result.copied == 0
    assert [failure.path for failure in result.failures] == ["red/broken.png"]
    assert not list(result.path.parent.glob("*.journal"))


def test_a_dask_cluster_that_loses_a_worker(source, alone, address, tmp_path):
    check_same(extract_and_kill_one(source, tmp_path / "store", address), alone)


def test_local_processes_one_of_which_is_killed(source, alone, tmp_path):
    result = extract_and_kill_one(source, tmp_path / "store", "2")
    check_same(result, alone)
    assert result.resumed > 0  # what the processes had finished before they were started anew
    assert not extract(source, tmp_path / "store", cluster="2", **OPTIONS).written


def test_shards_of_several_backbones_and_arrays_are_taken_up_by_one_process_and_strays_do_not_count(tmp_path):
    """A worker may go on for a while after the one that planned was killed, and that must do no harm."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), dtype=np.uint8)
    source, options = ArraySource(pixels, np.arange(40) % 2, name="noise"), {"size": 32, "batch_size": 4}
    networks = {"small_cnn": "random", "efficientnet_lite0": "imagenet"}
    whole = extract_all(source, tmp_path / "whole", networks, **options)
    store = tmp_path / "store"
    for task in shards(source, store, networks, 4)[1:]:
        assert all(done.computed for done in cluster.run_shard(task))
    header = task.parts[0].header
    stray = journal_path(task.parts[0].target).with_suffix(".0123.journal")
    Journal.create(stray, header.__class__(**(vars(header) | {"batch_size": 5}))).close()
    for resumed, expected in zip(extract_all(source, store, networks, **options), whole, strict=True):
        assert resumed.resumed and resumed.computed and resumed.resumed + resumed.computed == expected.computed == 40
        assert resumed.path.read_bytes() == expected.path.read_bytes()
    assert not list(store.glob("*.journal"))


def test_workers_see_several_looks_as_one_process_does(images, tmp_path, monkeypatch):
    looks = {"resize": ["squash", "crop"], "crops": [1, 5], "size": 32, "batch_size": 4, "engine": "keras"}
    networks = {"small_cnn": "random"}
    whole = extract_all(images, tmp_path / "whole", networks, **looks)
    found = extract_all(images, tmp_path / "store", networks, cluster="2", **looks)
    assert [each.look for each in found] == ["squash", "squash-crops5", "crop", "crop-crops5"]
    for one, other in zip(found, whole, strict=True):
        assert one.computed == 30 and one.path.read_bytes() == other.path.read_bytes()


def test_a_worker_builds_a_network_once_for_all_looks(images, tmp_path, monkeypatch):
    requests = [Request("small_cnn", "random", 32, None, ("last",), None, resize=look) for look in ("squash", "pad")]
    tasks = shards_of(images, tmp_path / "store", requests, 8)
    built, load = [], backbones.load
    monkeypatch.setattr(backbones, "load", lambda request: built.append(request) or load(request))
    assert [done.computed for task in tasks for done in cluster.run_shard(task)] == [8, 8] * 3 + [6, 6]
    assert len(built) == 1


# --------------------------------------------------------------------------------- what can be wrong


def test_a_worker_that_sees_something_else_says_so(images, tmp_path):
    task = shards(images, tmp_path / "store", {"small_cnn": "random"}, 8)[0]
    (done,) = cluster.run_shard(task)
    assert done.computed == 8 and not done.failures and done.journal.exists()
    (part,) = task.parts

    def run(**changed):
        cluster.run_shard(cluster.Shard(str(changed), task.source, [replace(part, **changed)]))

    with pytest.raises(WeightsError, match=r"worker .*: has other weights of efficientnet_lite0"):
        run(request=Request("efficientnet_lite0", "imagenet", 32, "avg", ("last",), None))
    with pytest.raises(StoreError, match="install the same versions"):
        run(header=part.header.__class__(**(vars(part.header) | {"producer": {"engine": "keras", "keras": "1"}})))
    images.rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"cannot read .* \(no such file\): all machines must see the images"):
        run()
    (tmp_path / "store").rename(tmp_path / "gone")
    with pytest.raises(StoreError, match="all machines must share the store's folder"):
        run(target=part.target)


def test_no_such_cluster(images, tmp_path, monkeypatch):
    with pytest.raises(FeatureStoreError, match="cluster 'many': give a number of processes, or the address"):
        extract(images, tmp_path / "store", cluster="many")
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(StoreError, match=r"tcp://127.0.0.1:9: no Dask cluster .*: start  dask scheduler"):
        extract(images, tmp_path / "store", size=32, cluster="tcp://127.0.0.1:9")
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'featurestore\[cluster\]'"):
        extract(images, tmp_path / "store", cluster="tcp://127.0.0.1:9")


def test_shards_on_a_dask_cluster_that_loses_a_worker(source, request, tmp_path):
    """Each worker publishes whole shards; what a killed one had finished of its shard is not computed again."""
    if request.config.getoption("--kills") < 20:
        pytest.skip("slow: pass --kills 20; tests/benchmarks/shard_kills.py kills more")
    address = request.getfixturevalue("address")
    options = OPTIONS | {"shard_rows": 20}
    whole = extract(source, tmp_path / "whole", **options)
    killed, finished = [], threading.Event()

    def kill_one():
        folder = tmp_path / "store" / whole.path.name
        wait_for(lambda: finished.is_set() or any(folder.glob("*.journal")))
        for process in psutil.process_iter(["cmdline"]):
            if not killed and "worker" in (process.info["cmdline"] or ()) and str(tmp_path) in process.cwd():
                killed.append(process.pid)
                process.kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    result = extract(source, tmp_path / "store", cluster=address, **options)
    finished.set()
    killer.join()
    assert killed and result.rows == whole.rows and result.views == whole.views
    for path in whole.path.glob("*.h5"):
        assert (result.path / path.name).read_bytes() == path.read_bytes()
    assert not list(result.path.glob("*.journal"))
