"""Print pip constraints that pin each runtime dependency to the lowest version that pyproject.toml allows.

Everything else keeps its version from .constraints.txt, so that a failure points to a lower bound.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"(?P<name>[\w.-]+)(\[.*\])?(?P<operator>>=|==)(?P<version>[\w.]+)")


def pins(lines):
    """Return the version that each requirement begins with, by normalized name."""
    found = filter(None, map(PIN.match, lines))
    return {re.sub(r"[-_.]+", "-", pin["name"]).lower(): pin["version"] for pin in found}


project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
direct = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
lowest = pins((ROOT / ".constraints.txt").read_text().splitlines()) | pins(direct)
print(*(f"{name}=={version}" for name, version in sorted(lowest.items())), sep="\n")
