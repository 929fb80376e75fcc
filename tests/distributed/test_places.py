"""Errors of workers say where they happened, and stay what they are."""

import pickle

import pytest

from lemon_async import ContractError
from lemon_async.distributed.places import at_place, place
from lemon_async.errors import BatchPaused, JournalError, RateLimited, SubmissionUnknown
from lemon_async.requests import GenerateRequest


def test_place_names_machine_and_process():
    """A log line of that machine can be found with it."""
    assert "process" in place()


@pytest.mark.parametrize(
    "error",
    [
        ContractError.of("save", "is no folder", undone="added"),
        BatchPaused(message="the budget is used up"),
        JournalError(message="the disk is full"),
        RateLimited(status=429, message="too many requests"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_with_a_message_name_the_place(error):
    """The type and everything else is kept, also through pickle."""
    text = str(error)
    placed = pickle.loads(pickle.dumps(at_place(error, "node-3")))
    assert type(placed) is type(error)
    assert "(worker on node-3)" in str(placed)
    assert str(placed).replace(" (worker on node-3)", "") == text


def test_other_errors_get_a_note():
    """An error whose text is not ours to change, or has no message."""
    request = GenerateRequest("a cat")
    for error in (OSError(5, "broken"), SubmissionUnknown(request=request, fingerprint="f00d", reason="reset")):
        assert at_place(error, "node-3") is error
        assert error.__notes__ == ["(worker on node-3)"]
