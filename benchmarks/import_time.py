"""Measure start-up: `from lemon_async import LemonSession` against its dependencies, and the command against click.

Import times are sums of `python -X importtime` in a new process; the command is timed from start to exit. The two sides
of a comparison alternate, and ratios and differences are taken within each pair, because machine speed drifts.
"""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

RUNS = 15
OURS = "from lemon_async import LemonSession"
DEPENDENCIES = "import aiohttp, anyio, attrs, cattrs, orjson, pybase64"
BAR = 1.25
COMMANDS = ("--version", "--help")
COMMAND_BAR_MS = 150


def import_ms(statement: str) -> float:
    """Return the milliseconds that a new interpreter spends on the imports of a statement."""
    run = subprocess.run(  # noqa: S603 - constant arguments
        [sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, check=True
    )
    # "import time: self [us] | cumulative | imported package": the self times add up to the whole.
    lines = re.findall(r"^import time:\s+(\d+) \|", run.stderr, re.MULTILINE)
    return sum(map(int, lines)) / 1000


def process_ms(words: Sequence[str]) -> float:
    """Return the milliseconds that a Python process takes from its start to its end."""
    began_at = time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, check=True)  # noqa: S603 - likewise
    return (time.perf_counter() - began_at) * 1000


def run(quick: bool = False) -> dict[str, Any]:  # noqa: ARG001
    """Return medians in milliseconds and the median ratio; for the command, the median difference."""
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
        "command": {option: compare_with_click(option) for option in COMMANDS},
    }


def compare_with_click(option: str) -> dict[str, float]:
    """Return the time of `lemon-async OPTION` and of `python -c "import click"`."""
    command, click = ("-m", "lemon_async", option), ("-c", "import click")
    process_ms(command), process_ms(click)  # warm the byte code caches
    pairs = [(process_ms(command), process_ms(click)) for _ in range(RUNS)]
    return {
        "command_ms": round(statistics.median(ours for ours, _ in pairs), 1),
        "import_click_ms": round(statistics.median(theirs for _, theirs in pairs), 1),
        "difference_ms": round(statistics.median(ours - theirs for ours, theirs in pairs), 1),
        "bar_ms": COMMAND_BAR_MS,
    }
