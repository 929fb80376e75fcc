"""Run benchmarks by name, all of them by default, and print one JSON object per benchmark.

Each is a module with `run(quick=False)`, which returns its figures, takes at most three minutes on two cores, and says
on stderr how far it is. With `quick` it takes at most twenty seconds: fewer rounds, or less in each.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import (
    b64,
    batch,
    check,
    connections,
    download,
    durable,
    edit_memory,
    fleet,
    import_time,
    inflight,
    journal,
    kill,
    limit_store,
    overhead,
    pace,
    ratelimit,
    scale,
    shared_limit,
    soak,
    studio,
    telemetry,
)

BENCHMARKS = {
    "import_time": import_time,
    "check": check,
    "connections": connections,
    "telemetry": telemetry,
    "b64": b64,
    "edit_memory": edit_memory,
    "pace": pace,
    "ratelimit": ratelimit,
    "shared_limit": shared_limit,
    "limit_store": limit_store,
    "overhead": overhead,
    "inflight": inflight,
    "soak": soak,
    "download": download,
    "batch": batch,
    "journal": journal,
    "durable": durable,
    "kill": kill,
    "fleet": fleet,
    "scale": scale,
    "studio": studio,
}


def machine() -> dict[str, str | int | None]:
    """Return the hardware and versions that the figures depend on."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "aiohttp": version("aiohttp"),
        "openai": _version("openai"),
    }


def _version(package: str) -> str | None:
    """Return the version of a package, or `None` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Print the machine and the figures of each benchmark; with `--charts`, also draw them."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    options.add_argument("--charts", type=Path, metavar="FOLDER", help="also draw NAME.png into this folder")
    options.add_argument("--quick", action="store_true", help="at most 20 s for each, for a rough idea only")
    chosen = options.parse_args()
    if unknown := set(chosen.names) - set(BENCHMARKS):
        options.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    print(json.dumps({"machine": machine()}), flush=True)
    for name in chosen.names or BENCHMARKS:
        started = time.monotonic()
        figures = BENCHMARKS[name].run(quick=chosen.quick)
        how = {"is_quick": chosen.quick, "took_s": round(time.monotonic() - started, 1)}
        print(json.dumps({name: how | figures}, indent=2), flush=True)
        if chosen.charts is not None and hasattr(BENCHMARKS[name], "chart"):
            chosen.charts.mkdir(parents=True, exist_ok=True)
            BENCHMARKS[name].chart(figures, chosen.charts / f"{name}{'.quick' if chosen.quick else ''}.png")


if __name__ == "__main__":
    main()
