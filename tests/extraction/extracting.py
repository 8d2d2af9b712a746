"""Run a real extraction in a process of its own, and say what it reports: for tests that kill it.

    python extracting.py SOURCE STORE BATCH_SIZE [VIEWS [CROPS]]

Prints a line per report of progress (``extracting DONE TOTAL``), and at the end ``result`` and JSON. After each report
it waits for so many seconds as the environment's PAUSE says, so that a signal finds it at work.
"""

import json
import os
import signal
import sys
import time

from featurestore import extract

SIZE = 32


def say(stage: str, done: int, total: int) -> None:
    print(stage, done, total, flush=True)
    time.sleep(float(os.environ.get("PAUSE", "0")))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in a shell's background ignores
    result = extract(
        sys.argv[1],
        sys.argv[2],
        size=SIZE,
        batch_size=int(sys.argv[3]),
        views=int(sys.argv[4]) if len(sys.argv) > 4 else None,
        crops=int(sys.argv[5]) if len(sys.argv) > 5 else 1,
        progress=say,
    )
    print("result", json.dumps(result.to_dict()), flush=True)
