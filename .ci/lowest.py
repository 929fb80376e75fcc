"""Print pip constraints that pin each runtime dependency to the lowest version that pyproject.toml allows.

The packages of the dependency groups keep their versions from .constraints.txt, so that a failure points to a bound.
Packages that nothing here names are left to pip, because old releases may need old ones.
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


metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())
project = metadata["project"]
direct = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
tools = [line for group in metadata["dependency-groups"].values() for line in group if isinstance(line, str)]
locked = pins((ROOT / ".constraints.txt").read_text().splitlines())
lowest = {name: locked[name] for name in pins(tools)} | pins(direct)
lowest["opentelemetry-api"] = locked["opentelemetry-api"]  # tools of the tests need a newer one
print(*(f"{name}=={version}" for name, version in sorted(lowest.items())), sep="\n")
