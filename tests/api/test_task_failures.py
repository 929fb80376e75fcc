"""A task that ended without a usable image becomes an error that names the task."""

import pytest

from lemon_async import errors
from lemon_async._api.error_responses import task_failure
from lemon_async.types import Billing, TaskFault, TaskSnapshot


class Ended:
    id, label = "ldtask_1", None

    def resume_token(self):
        return "lemon1.token"


@pytest.mark.parametrize(
    ("facts", "kind", "reason", "code"),
    [
        ({"status": "completed"}, errors.TaskFailed, "it completed without a usable image", None),
        ({"status": "failed", "fault": TaskFault("too rude", "nsfw")}, errors.TaskFailed, "too rude", "nsfw"),
        ({"status": "failed"}, errors.TaskFailed, "the service gave no reason", None),
        ({"status": "failed", "is_cancelled": True}, errors.TaskCancelled, "the service gave no reason", None),
    ],
)
def test_task_without_a_usable_image_is_an_error_that_names_it(facts, kind, reason, code):
    billing = Billing(headers={"x-request-id": "r1"})
    error = task_failure(TaskSnapshot(**facts, billing=billing), Ended())
    assert type(error) is kind
    assert (error.reason, getattr(error, "code", None)) == (reason, code)
    assert (error.task_id, error.resume_token, error.request_id) == ("ldtask_1", "lemon1.token", "r1")
    assert error.headers == {"x-request-id": "r1"}
