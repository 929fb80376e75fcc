"""What `from lemon_async import LemonSession` costs beside importing its core dependencies.

Each figure is the sum of `python -X importtime` of a fresh process. The two are taken in turn, and the ratio is
taken pair by pair, because machines drift.
"""

import re
import statistics
import subprocess
import sys
from typing import Any

RUNS = 15
OURS = "from lemon_async import LemonSession"
DEPENDENCIES = "import aiohttp, anyio, attrs, cattrs, orjson, pybase64"
BAR = 1.25


def import_ms(statement: str) -> float:
    """Return the milliseconds that a fresh interpreter spends on the imports of a statement."""
    run = subprocess.run(  # noqa: S603 - our own interpreter, our own words
        [sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, check=True
    )
    # "import time: self [us] | cumulative | imported package": the self times add up to the whole.
    lines = re.findall(r"^import time:\s+(\d+) \|", run.stderr, re.MULTILINE)
    return sum(map(int, lines)) / 1000


def run() -> dict[str, Any]:
    """Return medians in milliseconds and the median ratio."""
    import_ms(DEPENDENCIES), import_ms(OURS)  # warm the byte code caches
    pairs = [(import_ms(OURS), import_ms(DEPENDENCIES)) for _ in range(RUNS)]
    ratios = [ours / theirs for ours, theirs in pairs]
    return {
        "runs": RUNS,
        "lemon_async_ms": round(statistics.median(ours for ours, _ in pairs), 1),
        "dependencies_ms": round(statistics.median(theirs for _, theirs in pairs), 1),
        "ratio": {
            "median": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
        "bar": BAR,
    }
