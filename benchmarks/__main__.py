"""Run benchmarks by name, all of them by default, and print one JSON object per benchmark."""

import json
import platform
import sys

from benchmarks import check, edit_memory, import_time

BENCHMARKS = {"import_time": import_time.run, "check": check.run, "edit_memory": edit_memory.run}


def main() -> None:
    """Print the machine, then each benchmark's figures."""
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    print(json.dumps({"machine": machine}))
    for name in names:
        print(json.dumps({name: BENCHMARKS[name]()}, indent=2))


if __name__ == "__main__":
    main()
