"""The package stays easy to walk through: short call chains, and a test file for each module."""

import json
import subprocess
import sys
from pathlib import Path

# Bounds that only shrink, but for modules of their own for what each poll asks: its price, how long the jobs of a model
# take of which little is known, and which of them are asked first; and for that of outcomes that nobody has read.
ENTERED_AT_MOST = 34
ENTERED_BY_GENERATE_AT_MOST = 28


def test_walks_are_short_and_each_module_has_its_own_test_file():
    """What `tests/structure.py` measures, in a process without other tracing.

    From `generate` to the file on disk, few files are on the stack and not many are entered; from the heap to the
    waiter, a poll passes through few files; `lemon_async/_room/module.py` is tested by `tests/room/test_module.py`.
    """
    command = [sys.executable, Path(__file__).with_name("structure.py"), "--json"]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 6 <= len(measured["spine of a prompt"]) <= 12
    assert 20 <= len(measured["entered by a prompt"]) <= ENTERED_AT_MOST
    assert len(measured["of these, by generate"]) <= ENTERED_BY_GENERATE_AT_MOST
    assert {"_pace/schedule.py", "_tasks/poller.py"} <= set(measured["spine of a poll"])
    assert len(measured["spine of a poll"]) <= 8
    assert not measured["modules without a test file"]
