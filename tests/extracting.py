"""Run a real extraction in a process of its own, and say what it reports: for tests that kill it.

    python extracting.py SOURCE STORE BATCH_SIZE [VIEWS]

Prints a line per report of progress (``extracting DONE TOTAL``), and at the end ``result`` and JSON.
"""

import json
import sys

from featurestore import extract

SIZE = 32

if __name__ == "__main__":
    result = extract(
        sys.argv[1],
        sys.argv[2],
        size=SIZE,
        batch_size=int(sys.argv[3]),
        views=int(sys.argv[4]) if len(sys.argv) > 4 else None,
        progress=lambda stage, done, total: print(stage, done, total, flush=True),
    )
    print("result", json.dumps(result.to_dict()), flush=True)
