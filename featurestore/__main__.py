"""Where the command starts: Ctrl-C ends it in one line from the first moment, also while libraries are imported."""

import os
import signal

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def main() -> None:
    """Entry point of the command ``featurestore``."""
    signal.signal(signal.SIGINT, _leave)
    from cli import main as run

    run()


def _leave(signum: int, frame: object) -> None:
    os.write(2, b"interrupted: nothing was begun\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
