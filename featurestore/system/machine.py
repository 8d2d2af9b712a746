"""What the program runs on: memory, cores, and the versions of installed libraries."""

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use; on other systems there is no such folder."""


def machine_memory() -> int:
    """Bytes of memory that this machine has, or that its container may use.

    Example:
        >>> machine_memory() > 10**8
        True
    """
    if hasattr(os, "sysconf"):
        return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limit("memory.max")])
    from psutil import virtual_memory  # on Windows

    return int(virtual_memory().total)


def memory_limit(given: int | None = None) -> int:
    """Bytes of memory that a command may use: those that its user gave, or else half of :func:`machine_memory`.

    Example:
        >>> memory_limit(10**9), 2 * memory_limit() <= machine_memory()
        (1000000000, True)
    """
    return machine_memory() // 2 if given is None else given


def cores() -> int:
    """Number of cores that this process may use, which can be fewer than the machine has.

    Example:
        >>> 1 <= cores() <= os.cpu_count()
        True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    match _limit("cpu.max"):
        case [quota, period]:  # microseconds of computing in each period
            return max(1, min(allowed, -(-quota // period)))
    return allowed


def processor() -> str:
    """What tells one kind of machine from another: the processor and its instructions, cores, and drivers of GPUs.

    Example:
        >>> processor() == processor()
        True
    """
    with suppress(OSError), Path("/proc/cpuinfo").open(errors="replace") as file:
        first = file.read(8192).partition("\n\n")[0].splitlines()
        facts = [line for line in first if line.startswith(("model name", "flags", "Features", "CPU part"))]
        return "\n".join([platform.machine(), f"{cores()} cores", *_gpus(), *facts])
    return "\n".join([platform.machine(), f"{cores()} cores", platform.processor()])


def _gpus() -> list[str]:
    return [device for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dri") if Path(device).exists()]


def _limit(name: str) -> list[int]:
    """The numbers in a file of limits; none where nothing is limited."""
    try:
        return [int(word) for word in (_CONTAINER / name).read_text().split()]
    except (OSError, ValueError):
        return []


@cache
def version_of(library: str) -> str:
    """Version of an installed library, this one among them; "" where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    with suppress(PackageNotFoundError):  # run from a source tree, say
        return version(library)
    return ""
