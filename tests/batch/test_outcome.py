"""Which transition of a row follows from how its job ended."""

import attrs
import pytest

from lemon_async.batch.outcome import BatchOutcome, transition_of
from lemon_async.batch.states import State, Transition
from lemon_async.errors import (
    ApiError,
    ContractError,
    DownloadError,
    SaveError,
    SubmissionUnknown,
    TaskCancelled,
    TaskFailed,
    TaskLost,
    TaskTimeout,
    TransportError,
)
from lemon_async.requests import GenerateRequest

CAT = GenerateRequest("a cat")


@attrs.frozen
class Task:
    """A task that has ended."""

    id: str | None
    status: str


FAILED = Task("t1", "failed")
COMPLETED = Task("t1", "completed")
INLINE = Task(None, "completed")


def refusal(status, code=None):
    return ApiError(status=status, message="no", code=code)


BEFORE_SALE = [
    (SubmissionUnknown(request=CAT, fingerprint="f", reason="reset"), Transition.DOUBT),
    (ContractError.of("size", "is wrong"), Transition.REFUSE),
    (ContractError.of("shared_limit", "is no Redis server"), None),
    (refusal(400), Transition.REFUSE),
    (refusal(400, "content_policy_violation"), Transition.REFUSE),
    (refusal(404), Transition.REFUSE),
    (refusal(413), Transition.REFUSE),
    (refusal(401), None),
    (refusal(402), None),
    (refusal(403), None),
    (refusal(429), None),
    (refusal(500), None),
    (refusal(503), None),
    (TransportError(message="no route"), None),
    (OSError(), None),
]


def test_events_of_requests_that_were_not_accepted():
    """A row is refused only for what is its own fault."""
    for error, transition in BEFORE_SALE:
        assert [transition_of(error, None, has_sold=sold) for sold in (False, True)] == [transition, transition], error


@pytest.mark.parametrize("error", [refusal(404, "model_not_found"), refusal(403, "model_not_allowed")])
def test_a_model_that_does_not_exist_is_the_fault_of_its_row_if_others_are_accepted(error):
    """Otherwise it may be the model of all rows, and the batch is paused."""
    assert transition_of(error, None, has_sold=False) is None
    assert transition_of(error, None, has_sold=True) is Transition.REFUSE


AFTER_SALE = [
    (None, COMPLETED, Transition.SAVE),
    (None, INLINE, Transition.SAVE),
    (TaskFailed(reason="x"), FAILED, Transition.FAIL),
    (TaskCancelled(reason="x"), FAILED, Transition.FAIL),
    (TaskFailed(reason="no usable image"), COMPLETED, Transition.LOSE),
    (TaskLost(reason="x"), FAILED, Transition.LOSE),
    (TaskTimeout(reason="x"), COMPLETED, None),
    (refusal(401), COMPLETED, None),
    (DownloadError(url="u", reason="x"), COMPLETED, None),
    (SaveError(path="p", reason="x"), COMPLETED, None),
    (SaveError(path="p", reason="x"), INLINE, Transition.LOSE),
]


def test_events_of_tasks():
    """What can still be fetched stays sold; what can not is lost."""
    for error, task, transition in AFTER_SALE:
        assert transition_of(error, task, has_sold=True) is transition, (error, task)


def test_repr_is_one_short_line():
    error = ContractError.of("size", "is wrong " * 50)
    outcome = BatchOutcome(key="a", status=State.REFUSED, request=CAT, error=error)
    assert repr(outcome).startswith("<BatchOutcome a refused ContractError: size: is wrong")
    assert len(repr(outcome)) < 150
