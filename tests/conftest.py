"""Small real data for all tests."""

import gc
import os
import subprocess
from importlib.util import find_spec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pictures import write_images

from featurestore.system.machine import cores

# A test that asserts a time fails on a busy machine. Half as many examples as usual: all tests are run for each change.
settings.register_profile("untimed", deadline=None, max_examples=50)
settings.register_profile("fuzz", deadline=None, max_examples=10_000, suppress_health_check=list(HealthCheck))
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def network_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds what runs of the user's, or of other workers, know of networks."""
    os.environ["FEATURESTORE_NETWORK_CACHE"] = str(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """30 images in three class folders."""
    return write_images(tmp_path / "colours", 10)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    yield disk
    gc.collect()  # what a failed command held open
    subprocess.run(["umount", disk], check=True)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: many tests wait for processes that they have started."""
    return cores() + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="processes to kill in tests/extraction/test_kill.py")
    parser.addoption("--kill-seed", default="0", help="of the moments at which they are killed")
    parser.addoption("--hostile", action="store_true", help="run the slow and the large cases of tests/hostile too")


LONGEST = ("test_kill.py", "test_the_readmes_commands", "test_control_c")
"""Tests of a minute and more begin first, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONGEST))
    for item in items:
        if item.get_closest_marker("slow_hostile") and not config.getoption("--hostile"):
            item.add_marker(pytest.mark.skip(reason="slow or large: pass --hostile"))
        if item.get_closest_marker("torch") and not all(map(find_spec, ("torch", "timm", "transformers"))):
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed: see docs/contributing.md"))
