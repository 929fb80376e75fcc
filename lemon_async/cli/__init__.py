"""The command `lemon-async`: generate, edit and resume from a shell, and run the emulator as a server.

Begin with `commands.py`, which declares every command and imports its work only when it runs, so that `--help` and
completion are quick. `generate.py`, `catalog.py`, `emulator.py` and `batch/` do the work, in a loop that `runner.py`
starts and ends. The command uses the public API of the package and nothing else. README.md beside this file is its
reference.

A new option is declared in `options.py` (an option of a request: a row in `fields.py`) and used where its value
goes.
"""

import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]

_EXTRAS = {"click": "cli", "jinja2": "cli", "tqdm": "cli", "PIL": "emulator"}


def main() -> NoReturn:
    """Run the command and exit."""
    # In a background job of a shell script, SIGINT is ignored, and stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)
    try:
        from lemon_async.cli.commands import cli  # noqa: PLC0415 - click is an extra

        cli(prog_name="lemon-async")
    except ModuleNotFoundError as missing:
        extra = _EXTRAS.get(missing.name or "")
        if extra is None:
            raise
        sys.exit(f"lemon-async: {missing.name} is not installed: pip install 'lemon-async[{extra}]'")
    sys.exit()


def _exit(number: int, _: object) -> NoReturn:
    """Exit without a traceback: imports take a moment, and nothing has been sent."""
    os._exit(128 + number)
