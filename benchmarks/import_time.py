"""Measure start-up: `from lemon_async import LemonSession` against its dependencies, and the command against aiohttp.

Imports are measured as CPU time of the statement in a new interpreter, the command from start to exit. All read byte
code that was compiled before, as after an installation. The sides of a comparison alternate, and ratios are taken
within each round, because machine speed drifts. `session_ms` is what a program pays until it has a session: it shows
that nothing is loaded later to make the import look short.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.progress import progress

ROUNDS, QUICK_ROUNDS = 25, 5
DEPENDENCIES = "import aiohttp, anyio, attrs, cattrs, orjson, pybase64"
IMPORTS = {
    "dependencies_ms": DEPENDENCIES,
    "lemon_async_ms": "from lemon_async import LemonSession",
    "session_ms": "from lemon_async import LemonSession; LemonSession('key')",
}
COMMANDS = {
    "import_aiohttp_ms": ("-c", "import aiohttp"),
    "version_ms": ("-m", "lemon_async", "--version"),
    "help_ms": ("-m", "lemon_async", "--help"),
}
BARS = {"import_to_dependencies": 1.15, "version_to_import_aiohttp": 0.875}  # 0.35 s where aiohttp takes 0.4 s


def import_ms(environment: Mapping[str, str], statement: str) -> float:
    """Return the CPU milliseconds that a new interpreter spends on a statement."""
    code = f"import time\nbegan_at = time.process_time()\n{statement}\nprint(time.process_time() - began_at)"
    run = subprocess.run(  # noqa: S603 - constant arguments
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return float(run.stdout) * 1000


def command_ms(environment: Mapping[str, str], *words: str) -> float:
    """Return the milliseconds that a Python process takes from its start to its end."""
    began_at = time.perf_counter()
    subprocess.run([sys.executable, *words], env=environment, capture_output=True, check=True)  # noqa: S603 - likewise
    return (time.perf_counter() - began_at) * 1000


def run(quick: bool = False) -> dict[str, Any]:
    """Return medians in milliseconds, and the median ratios that the bars are about."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        sides: dict[str, Callable[[], float]] = {
            **{name: partial(import_ms, environment, statement) for name, statement in IMPORTS.items()},
            **{name: partial(command_ms, environment, *words) for name, words in COMMANDS.items()},
        }
        for measure in sides.values():
            measure()  # compiles
        parts = progress("import_time", range(QUICK_ROUNDS if quick else ROUNDS))
        rounds = [{name: measure() for name, measure in sides.items()} for _ in parts]
    ratios = {
        "import_to_dependencies": [each["lemon_async_ms"] / each["dependencies_ms"] for each in rounds],
        "session_to_dependencies": [each["session_ms"] / each["dependencies_ms"] for each in rounds],
        "version_to_import_aiohttp": [each["version_ms"] / each["import_aiohttp_ms"] for each in rounds],
    }
    medians = {name: round(statistics.median(values), 3) for name, values in ratios.items()}
    return {
        "rounds": len(rounds),
        **{name: round(statistics.median(each[name] for each in rounds), 1) for name in sides},
        **medians,
        "bars": {
            name: {"value": medians[name], "most": most, "is_met": medians[name] <= most} for name, most in BARS.items()
        },
        "missed": [name for name, most in BARS.items() if medians[name] > most],
    }
