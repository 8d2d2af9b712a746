"""Take from every Python process what Windows does not have. Python imports this file when it starts."""

import multiprocessing
import os
import sys

import filelock  # noqa: F401  (on Windows these two need nothing of what is taken away below)
import psutil  # noqa: F401

for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None  # type: ignore[assignment]
for name in (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "SEEK_DATA", "SEEK_HOLE",
    "fork", "geteuid", "getuid", "mkfifo", "posix_fallocate", "pread", "pwrite", "sched_getaffinity", "sysconf",
):  # fmt: skip
    if hasattr(os, name):
        delattr(os, name)
multiprocessing.set_start_method("spawn")
