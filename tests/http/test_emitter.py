"""Events reach the program's functions, whatever those do."""

import asyncio
import logging

import pytest

from lemon_async._http.emitter import Emitter
from lemon_async.events import RateLimited


@pytest.mark.parametrize("failure", [ValueError("no"), asyncio.CancelledError()])
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
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info
