"""Journals for the commands that look after them."""

import asyncio

import pytest
from click.testing import CliRunner

from journals import new_row
from lemon_async.batch.opening import open_journal
from lemon_async.batch.records import Change, SavedPicture
from lemon_async.batch.states import Transition
from lemon_async.cli.commands import cli

# How a row gets into each state.
WAYS = {
    "new": [],
    "intent": [Transition.INTEND],
    "sold": [Transition.INTEND, Transition.ACCEPT],
    "done": [Transition.INTEND, Transition.ACCEPT, Transition.SAVE],
    "refused": [Transition.INTEND, Transition.REFUSE],
    "doubtful": [Transition.INTEND, Transition.DOUBT],
    "failed": [Transition.INTEND, Transition.ACCEPT, Transition.FAIL],
    "dead": [Transition.INTEND, Transition.ACCEPT, Transition.LOSE],
}
FACTS = {
    Transition.INTEND: {"fingerprint": "f1e2", "price_usd": 0.04},
    Transition.ACCEPT: {"task": "ldtask_1"},
    Transition.SAVE: {"pictures": (SavedPicture("cat.png", 3, "00"),)},
    Transition.DOUBT: {"error": "no response"},
}


@pytest.fixture
def journal(tmp_path):
    """Make a journal in the current folder, with a row of each key in this state; return its name."""

    async def make(**states):
        async with open_journal(tmp_path / "run.db", create=True) as journal:
            fields = {"model": "flux-pro", "operation": "generate", "prompt": "a cat"}
            await journal.add([new_row(key, **fields) for key in states])
            for key, state in states.items():
                for transition in WAYS[state]:
                    await journal.record(Change(key=key, transition=transition, **FACTS.get(transition, {})))
        return "run.db"

    return make


@pytest.fixture
def batch():
    """Run `lemon-async batch` with these arguments in a thread, because it starts its own event loop."""

    async def run(*words, **options):
        return await asyncio.to_thread(CliRunner().invoke, cli, ["batch", *words], **options)

    return run
