"""The command `lemon-async`: pictures, models and files from a shell, and the emulator as a server.

Paths of saved pictures (with `--json`, a line of JSON for each picture and failure), ids and lists go to stdout,
everything else to stderr. The exit code is that of the worst job:

    0    everything was done, every picture was saved
    1    the service refused, a task failed, or a picture or file could not be fetched or saved
    2    the command itself is wrong: everything that is was told at once, and nothing was sent
    3    a paid request was sent and its fate is unknown: look before you repeat it
    4    a task is not finished; the message tells how to pick it up again
    130  interrupted (143: terminated, 129: hung up); pending tasks are listed with the command that picks them up
    141  the reader of stdout has gone; nothing more was submitted, what was sold is saved
"""

import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command and exit."""
    # In a background job of a shell script, SIGINT is ignored, and stays so.
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:  # the imports take a moment, in which Ctrl-C would show a traceback
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    try:
        from lemon_async.cli.commands import cli  # noqa: PLC0415 - click and tqdm are an extra
    except ModuleNotFoundError as missing:
        sys.exit(f"lemon-async: {missing.name} is not installed: pip install 'lemon-async[cli]'")
    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(cli(prog_name="lemon-async"))
