"""The command `lemon-async`: pictures, models and files from a shell, and the emulator as a server.

Paths of saved pictures (with `--json`, a line of JSON for each picture and failure), ids and lists go to stdout,
everything else to stderr. The exit code is that of the worst job:

    0    everything was done, every picture was saved
    1    the service refused, a task failed, or a picture or file could not be fetched or saved
    2    the command itself is wrong: everything that is was told at once, and nothing was sent
    3    a paid request was sent and its fate is unknown: look before you repeat it
    4    a task is not finished; the message tells how to pick it up again
    130  interrupted (143: terminated); pending tasks are listed with the command that picks them up again
"""

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command and exit."""
    try:
        from lemon_async.cli.commands import cli  # noqa: PLC0415 - click and tqdm are an extra
    except ModuleNotFoundError as missing:
        sys.exit(f"lemon-async: {missing.name} is not installed: pip install 'lemon-async[cli]'")
    cli(prog_name="lemon-async")
    raise AssertionError("click exits by itself")
