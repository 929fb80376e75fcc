"""Events reach the program's functions, whatever those do."""

import asyncio
import logging

import pytest

from lemon_async._http.emitter import Emitter, IdlingHandler
from lemon_async.events import RateLimited


class Panic(BaseException):
    """As code in Rust raises."""


@pytest.mark.parametrize(
    "failure", [ValueError("no"), asyncio.CancelledError(), Panic(), GeneratorExit(), pytest.fail.Exception("no")]
)
def test_a_function_that_raises_is_logged_once_and_harms_nothing(failure, caplog):
    """The others are called, and so is it the next time."""
    seen = []

    def wrong(event):
        seen.append("wrong")
        raise failure

    emitter = Emitter([wrong, seen.append])
    for _ in range(2):
        emitter.emit(RateLimited, retry_after_s=1.0)
    assert seen[::2] == ["wrong", "wrong"]
    assert [event.retry_after_s for event in seen[1::2]] == [1.0, 1.0]
    errors = [record for record in caplog.records if (record.name, record.levelno) == ("lemon_async", logging.ERROR)]
    assert len(errors) == 1
    assert errors[0].exc_info


def test_event_that_a_function_causes_follows_for_all_functions():
    """Each sees them in the order of what happened."""
    first, second = [], []

    def cause(event):
        first.append(event.retry_after_s)
        if event.retry_after_s < 2:
            emitter.rate_limited(event.retry_after_s + 1)

    emitter = Emitter([cause, lambda event: second.append(event.retry_after_s)])
    emitter.rate_limited(0)
    assert first == second == [0, 1, 2]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_program_that_is_interrupted_in_a_function_gets_later_events(interruption):
    seen = []

    def interrupted(event):
        seen.append(event.retry_after_s)
        if len(seen) == 1:
            raise interruption

    emitter = Emitter([interrupted])
    with pytest.raises(interruption):
        emitter.rate_limited(1)
    emitter.rate_limited(2)
    assert seen == [1, 2]


class Idling(IdlingHandler):
    """A handler whose need for events a test sets."""

    idle = True

    def is_idle(self):
        return self.idle

    def __call__(self, event):
        """Ignore it."""


class Lookalike:
    """Not a subclass: what it has under that name is its own affair, as with a mock."""

    def is_idle(self):
        return True

    def __call__(self, event):
        """Want it."""


def test_emitter_is_idle_only_if_every_function_is():
    """Then the events of a job that begins need not be made."""
    first, second = Idling(), Idling()
    assert Emitter([first, second]).is_idle()
    second.idle = False
    assert not Emitter([first, second]).is_idle()
    assert not Emitter([first, print]).is_idle()
    assert not Emitter([Lookalike()]).is_idle()
