"""Responses about jobs: no response raises, and no accepted job is lost."""

import base64
import gc
import math

import attrs
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lemon_async._api.error_responses import Failure
from lemon_async._api.job_responses import (
    Accepted,
    PollFailure,
    PollSuccess,
    Refused,
    UnknownOutcome,
    pack,
    read_poll,
    read_snapshot,
    read_submission,
    unpack,
)
from lemon_async._api.response import Response
from lemon_async.errors import ApiError, BadRequest, NotFound, RateLimited, ServerError
from lemon_async.types import Billing, ImageData, Inline, TaskFault, TaskSnapshot

steady = settings(derandomize=True, deadline=None)


class Same(Inline):
    """Equal to any other that came from the same base64."""

    __hash__ = None

    def __init__(self, text):
        super().__init__(base64.b64decode(text))

    def __eq__(self, other):
        return isinstance(other, Inline) and self.content == other.content


TASK_ID = "ldtask_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
# The answers as they stand in the documentation.
INLINE_ANSWER = b"""{
  "created": 1706000000,
  "data": [
    {
      "url": "https://...",
      "revised_prompt": "A fluffy white cat with bright eyes sitting peacefully on a wooden windowsill, watching \
raindrops stream down the glass window..."
    }
  ]
}"""
TASK_ANSWER = b"""{
  "created": 1706000000,
  "id": "ldtask_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "task_id": "ldtask_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "poll_url": "/v1/tasks/ldtask_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "status": "pending",
  "data": [
    {
      "url": "",
      "revised_prompt": "a beautiful sunset over mountains"
    }
  ]
}"""
LINK = "https://cdn.example/1.png"
DONE = {"created": 1706000000, "task_id": "t1", "status": "completed", "data": [{"url": LINK}]}
REFUSAL = {"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}}
LOST = {"error": {"message": "Task not found or no longer available.", "code": "async_task_not_found"}}


def answer(value, status=200, **headers):
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return Response(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def noise(reason, retry_after_s=None):
    """Return the reading of a poll that says nothing about its task, without its error."""
    return PollFailure(Failure.TRANSIENT, reason, None, retry_after_s)


def polled(response, asked=None):
    """Return the reading of a poll, without the error of a failure."""
    reading = read_poll(response, asked)
    return reading._replace(error=None) if isinstance(reading, PollFailure) else reading


def comparable(image):
    """Return the values of an entry, with its bytes as bytes."""
    content = image.inline.content if image.inline else None
    return image.url, content, image.revised_prompt


def snapshot(value, **headers):
    """Return the snapshot that a submit and a poll both read in a response."""
    submission, poll = read_submission(answer(value, **headers)), polled(answer(value, **headers))
    assert isinstance(submission, Accepted)
    bare = [
        attrs.evolve(each, images=tuple(map(comparable, each.images))) for each in (poll.snapshot, submission.snapshot)
    ]
    assert bare[0] == bare[1]
    return submission.snapshot


def test_snapshot_is_what_a_poll_read_and_anything_else_raises():
    assert read_snapshot(answer(DONE), "t1") == polled(answer(DONE), "t1").snapshot
    for response in (answer(LOST, 404), answer(REFUSAL, 403), answer(b"<html>", 502), answer(DONE | {"task_id": "t2"})):
        with pytest.raises(ApiError):
            read_snapshot(response, "t1")


def test_documented_inline_response_is_a_completed_job():
    """The page "Create image", under "Inline Response"."""
    assert snapshot(INLINE_ANSWER) == TaskSnapshot(
        status="completed",
        created=1706000000,
        images=(
            ImageData(
                url="https://...",
                revised_prompt="A fluffy white cat with bright eyes sitting peacefully on a wooden windowsill, "
                "watching raindrops stream down the glass window...",
            ),
        ),
    )


def test_documented_task_response_is_pending_without_images():
    """The page "Get image status"; a placeholder with an empty `url` is not an image."""
    assert snapshot(TASK_ANSWER) == TaskSnapshot(
        status="pending",
        task_id=TASK_ID,
        poll_url=f"/v1/tasks/{TASK_ID}",
        created=1706000000,
    )


def test_completed_answer_is_read_whole():
    value = {
        **DONE,
        "id": "other",
        "poll_url": "/v1/tasks/t1",
        "model": "flux-pro",
        "progress": 100,
        "usage": {"total_tokens": 7},
        "billing_transaction_id": "tx_1",
        "updated": 1706000009,
        "error": None,
        "cancelled": False,
    }
    headers = {"x_request_id": "req_1", "x_billing_amount": "0.04", "content_type": "application/json"}
    assert snapshot(value, **headers) == TaskSnapshot(
        status="completed",
        task_id="t1",
        poll_url="/v1/tasks/t1",
        images=(ImageData(url=LINK),),
        created=1706000000,
        model="flux-pro",
        progress=100.0,
        billing=Billing("tx_1", {"total_tokens": 7}, {"x-request-id": "req_1", "x-billing-amount": "0.04"}),
    )


TASK_ANSWER_IS_TOLD_ROWS = (
    ({"status": "pending", "task_id": "t1", "poll_url": "/v1/tasks/t2"}, "pending", "t1"),
    ({"task_id": "t1"}, "pending", "t1"),
    ({"task_id": "t1", "id": "t2"}, "pending", "t1"),
    ({"poll_url": "/v1/images/generations/t1"}, "pending", "t1"),
    ({"poll_url": "/v1/tasks/t1/?a=/b"}, "pending", "t1"),
    ({"poll_url": "/v1/tasks/t2", "id": "t1"}, "pending", "t1"),
    ({"poll_url": "https://evil.example/t1"}, "pending", "t1"),
    ({"status": "pending", "id": "t1"}, "pending", "t1"),
    ({"status": "processing", "id": "t1"}, "processing", "t1"),
    ({"status": "processing", "task_id": "t1"}, "processing", "t1"),
    ({"status": "queued", "task_id": "t1"}, "queued", "t1"),
    ({"status": "queued", "id": "t1"}, "queued", "t1"),
    ({"status": "queued", "id": "t1", "data": [{"url": LINK}]}, "queued", "t1"),
    ({"status": "", "task_id": "t1"}, "pending", "t1"),
    ({"status": None, "task_id": "t1"}, "pending", "t1"),
    ({"status": 5, "task_id": "t1"}, "pending", "t1"),
    ({"status": "failed", "task_id": "t1"}, "failed", "t1"),
    ({"status": "completed", "task_id": "t1"}, "completed", "t1"),
    ({"status": "pending", "task_id": 5, "id": "t1"}, "pending", "t1"),
    ({"status": "pending", "task_id": "", "id": "", "poll_url": "/v1/tasks/t1"}, "pending", "t1"),
    ({"task_id": "t1", "data": [{"url": LINK}]}, "completed", "t1"),
    ({"status": "completed", "poll_url": "/v1/tasks/t1", "data": [{"url": LINK}]}, "completed", "t1"),
    ({"status": "queued", "poll_url": "/v1/tasks/t1"}, "queued", "t1"),
    ({"poll_url": "/v1/tasks/t1", "data": [{"url": ""}]}, "pending", "t1"),
    ({"data": [{"url": LINK}]}, "completed", None),
    ({"data": [{"url": LINK}], "id": "img_1"}, "completed", None),
    ({"data": [{"url": LINK}], "id": "img_1", "status": "completed"}, "completed", None),
    ({"data": [{"b64_json": "iVBORw0KGgo="}]}, "completed", None),
)


def test_any_mark_makes_a_task_and_none_an_inline_response():
    """The page "Create image" names three: `status: "pending"`, `task_id` and `poll_url`."""
    for value, status, task_id in TASK_ANSWER_IS_TOLD_ROWS:
        found = snapshot(value)
        assert (found.status, found.task_id) == (status, task_id)


SUCCESS_WITH_NEITHER_AN_ROWS = (
    *(
        None,
        [],
        [DONE],
        "pending",
        5,
        {},
        {"created": 1},
        {"data": []},
        {"data": [{"url": ""}]},
        {"id": "t1"},
        REFUSAL,
    ),
    *({"id": "t1", "data": [{"url": ""}]}, {"status": ""}, {"status": 200, "message": "ok"}, {"task_id": 5}),
    {"poll_url": ""},
)


def test_success_with_neither_an_image_nor_a_task_is_garbled():
    for status in (200, 201, 202, 299):
        for value in SUCCESS_WITH_NEITHER_AN_ROWS:
            reading = read_submission(answer(value, status))
            assert isinstance(reading, UnknownOutcome)
            assert reading.reason == f"HTTP {status} with neither an image nor a task"
            assert reading.error.status == status
            assert polled(answer(value, status)) == noise(f"HTTP {status} without a task")


@pytest.mark.parametrize("value", [{"status": "pending"}, {"status": "completed"}, {"status": "failed", "error": "no"}])
def test_submission_with_a_status_and_nothing_to_ask_for_is_garbled(value):
    assert isinstance(read_submission(answer(value)), UnknownOutcome)


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, BadRequest),
        (404, NotFound),
        (429, RateLimited),
    ],
)
def test_submission_is_refused_in_the_services_own_words(status, cls):
    reading = read_submission(answer(REFUSAL, status))
    assert isinstance(reading, Refused)
    assert type(reading.error) is cls
    assert reading.error.code == "model_not_found"


def test_submission_is_refused_with_a_5xx_by_a_documented_code():
    """The page "Errors" has these four."""
    for status in (500, 502, 503, 504, 529):
        for code in ("server_error", "upstream_error", "all_channels_failed", "timeout_error"):
            reading = read_submission(answer({"error": {"message": "no", "code": code}}, status))
            assert isinstance(reading, Refused)
            assert (type(reading.error), reading.error.code) == (ServerError, code)


def test_submission_with_a_5xx_of_a_gateway_is_unknown():
    """Gateways respond in JSON, too, and do not know the outcome of the request."""
    for status in (500, 502, 503, 504, 520):
        for body in (
            REFUSAL,
            {"error": {"message": "no"}},
            {"error": {"message": "no", "type": "server_error", "code": None}},
            {"error": {"message": "no", "code": 502}},
            {"error": {"message": "no", "code": "502"}},
            {"error": {"message": "no", "code": ["server_error"]}},
            {"error": {"message": "no", "code": "do_request_failed", "retryable": True}},
            {"message": "no", "code": "server_error"},
            {"detail": "no"},
        ):
            assert isinstance(read_submission(answer(body, status)), UnknownOutcome)


def test_refusal_that_carries_a_task_or_data_is_unknown_and_names_it():
    """A job was accepted, whatever the status: its id is in the reason, so that it can be resumed."""
    for status in (302, 400, 408, 429, 500, 503):
        for extra, words in (
            ({"task_id": "t1"}, "task 't1': `session.task` resumes it by this id"),
            ({"task_id": "t1", "id": "x", "status": "failed"}, "task 't1': `session.task` resumes it by this id"),
            ({"task_id": 51}, "task '51': `session.task` resumes it by this id"),
            ({"id": "t1", "status": "pending"}, "task 't1': `session.task` resumes it by this id"),
            ({"poll_url": "/v1/tasks/t1"}, "task 't1': `session.task` resumes it by this id"),
            ({"data": {"task_id": "t1"}}, "task 't1': `session.task` resumes it by this id"),
            ({"error": {"message": "no", "code": "server_error", "task_id": "t1"}}, "task 't1'"),
            ({"details": [1, {"job": {"task_id": "t1"}}]}, "task 't1': `session.task` resumes it by this id"),
            ({"upstream": {"poll_url": "/v1/tasks/t1"}}, "task 't1': `session.task` resumes it by this id"),
            ({"status": "completed"}, "a task without an id"),
            ({"data": [{"url": LINK}]}, "data"),
            ({"data": [{"url": ""}]}, "data"),
        ):
            refusal = {"error": {"message": "no", "code": "server_error"}, **extra}
            reading = read_submission(answer(refusal, status))
            assert isinstance(reading, UnknownOutcome)
            assert reading.reason.startswith(f"HTTP {status} with {words}")


REFUSAL_WITH_ODD_FIELDS_ROWS = (
    {"id": "req_1"},
    {"status": "error"},
    {"status": "failed"},
    {"status": 429},
    {"status": ["pending"]},
    {"task_id": None},
    {"task_id": ""},
    {"task_id": True},
    {"data": None},
    {"data": []},
    {"data": {}},
    {"poll_url": ""},
    {"alternatives": [{"id": "flux-pro", "status": "completed"}]},
    {"many": [{"task_id": ""}] * 300 + [{"task_id": "t1"}]},
)


def test_refusal_with_odd_fields_and_nothing_sold_is_a_refusal():
    for extra in REFUSAL_WITH_ODD_FIELDS_ROWS:
        assert isinstance(read_submission(answer({**REFUSAL, **extra}, 429)), Refused)


def test_submission_refused_in_another_form_is_unknown():
    """A proxy does not know whether the job was accepted."""
    for status in (400, 401, 429, 500, 503):
        for body in ({"error": "no"}, {"detail": "no"}, [], None, {"error": {}}):
            reading = read_submission(answer(body, status))
            assert isinstance(reading, UnknownOutcome)
            assert reading.reason == f"HTTP {status} without an error of the service"


@pytest.mark.parametrize("status", [408, 460, 499])
def test_submission_that_a_gateway_gave_up_is_unknown(status):
    """The gateway forwarded the request, and does not know its outcome."""
    assert isinstance(read_submission(answer(REFUSAL, status)), UnknownOutcome)


def test_id_is_guessed_where_only_an_address_of_an_unknown_form_is_named():
    for value, task_id, is_guessed in (
        ({"task_id": "t1", "poll_url": "/v1/poll/a7"}, "t1", False),
        ({"id": "t1"}, "t1", False),
        ({"task_id": 51}, "51", False),
        ({"poll_url": "/v1/tasks/t1"}, "t1", False),
        ({"poll_url": "https://api.test/lemon/v1/images/generations/t1/?a=b"}, "t1", False),
        ({"id": "t1", "poll_url": "/v1/images/t1"}, "t1", False),
        ({"id": "i1", "poll_url": "/v1/tasks/t1"}, "i1", True),
        ({"poll_url": "/v1/tasks/t1/status"}, "status", True),
        ({"poll_url": "/v1/tasks?id=t1"}, "tasks", True),
        ({"poll_url": "/v1/poll/a7"}, "a7", True),
    ):
        found = snapshot({"status": "pending", **value})
        assert (found.task_id, found.is_id_guessed) == (task_id, is_guessed)


def test_submission_answered_with_a_redirect_is_garbled_whatever_it_says():
    for body in (REFUSAL, DONE):
        for status in (301, 302, 304, 307, 308, 399, 100, 199):
            assert isinstance(read_submission(answer(body, status)), UnknownOutcome)


def test_unreadable_submission_is_garbled_and_unreadable_poll_is_noise():
    for status in (200, 302, 400, 429, 502):
        for body, words in (
            (b"", "an empty body"),
            (b"<html><title>502 Bad Gateway</title>", "an HTML page '502 Bad Gateway'"),
            (INLINE_ANSWER[:40], 'the text \'{ "created": 1706000000, "data": [\''),
        ):
            reading = read_submission(answer(body, status))
            assert isinstance(reading, UnknownOutcome)
            assert reading.reason == f"HTTP {status} with {words}"
            if status not in {401, 403}:
                assert polled(answer(body, status)) == noise(f"HTTP {status} with {words}")


def test_answer_cut_at_any_byte_is_never_taken_for_a_whole_one():
    for at in range(len(TASK_ANSWER)):
        assert isinstance(read_submission(answer(TASK_ANSWER[:at])), UnknownOutcome)
        assert isinstance(polled(answer(TASK_ANSWER[:at])), PollFailure)


@pytest.mark.parametrize(
    ("usage", "kept"), [({"total_tokens": 7}, {"total_tokens": 7}), ({}, {}), (7, None), ([], None)]
)
def test_usage_is_an_object_or_nothing(usage, kept):
    assert snapshot({"task_id": "t1", "usage": usage}).billing.usage == kept


@pytest.mark.parametrize("status", ["success", "Completed", "", 200])
def test_submission_with_images_and_no_task_is_complete_whatever_its_status(status):
    reading = read_submission(answer({"status": status, "data": [{"url": LINK}]}))
    assert isinstance(reading, Accepted)
    assert reading.snapshot.is_done
    assert reading.snapshot.images == (ImageData(url=LINK),)


def test_submission_that_failed_is_no_success_whatever_its_images():
    reading = read_submission(answer({"status": "failed", "data": [{"url": LINK}]}))
    assert reading.snapshot.status == "failed"


def test_task_id_of_odd_characters_or_type_is_not_used():
    for odd in ("t\n1", "t\x1b[2J", "\u202et1", "", 5, None, ["t1"]):
        assert snapshot({"status": "pending", "task_id": odd, "id": "t1"}).task_id == "t1"
        assert snapshot({"status": "pending", "task_id": odd, "id": odd, "poll_url": "/v1/tasks/t1"}).task_id == "t1"
        assert polled(answer({"status": "pending", "poll_url": f"/v1/tasks/{odd}\x1b"})).snapshot.task_id is None


PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


POLL_REPORTS_ITS_TASK_ROWS = (
    (200, DONE, None),
    (202, TASK_ANSWER, None),
    (200, {"status": "weird"}, None),
    (401, REFUSAL, Failure.REFUSED),
    (403, REFUSAL, Failure.REFUSED),
    (401, b"<html>", Failure.TRANSIENT),
    (403, b"", Failure.TRANSIENT),
    (403, DONE, Failure.TRANSIENT),
    (404, LOST, Failure.NOT_FOUND),
    (404, REFUSAL, Failure.TRANSIENT),
    (404, {"error": "not found"}, Failure.TRANSIENT),
    (404, b"<html>404</html>", Failure.TRANSIENT),
    (404, DONE, Failure.TRANSIENT),
    (400, REFUSAL, Failure.TRANSIENT),
    (408, REFUSAL, Failure.TRANSIENT),
    (429, REFUSAL, Failure.TRANSIENT),
    (500, REFUSAL, Failure.TRANSIENT),
    (503, DONE, Failure.TRANSIENT),
    (302, DONE, Failure.TRANSIENT),
    (200, REFUSAL, Failure.TRANSIENT),
    (204, b"", Failure.TRANSIENT),
)


def test_poll_returns_its_task_or_a_failure():
    """Only the service's own errors refuse a task or report it as unknown."""
    for status, body, failure in POLL_REPORTS_ITS_TASK_ROWS:
        assert getattr(polled(answer(body, status)), "failure", None) is failure


FAILED = {"created": 1706000000, "task_id": "t1", "status": "failed", "data": []}


def test_failure_that_names_the_task_ends_it():
    """The page "Get image status" has the shape; `error` is text, an object or missing."""
    for name in (
        {"task_id": "t1"},
        {"task_id": None, "id": "t1"},
        {"task_id": "t1", "id": "gen-1"},
        {"task_id": " T1 "},
        {"task_id": "%74%31"},
        {"task_id": None, "poll_url": "/v1/tasks/t1"},
        {"task_id": None, "cancelled": True},
    ):
        for error, fault in (
            ("no", TaskFault("no")),
            ({"message": "no", "code": "moderation"}, TaskFault("no", "moderation")),
            (None, None),
            (5, None),
        ):
            reading = polled(answer({**FAILED, "error": error, **name}), "t1")
            assert isinstance(reading, PollSuccess)
            assert (reading.snapshot.status, reading.snapshot.fault) == ("failed", fault)


def test_end_without_a_picture_that_does_not_name_the_task_is_noise():
    """It may be about a job of the gateway."""
    for asked in ("t1", None):
        for value in (
            {"status": "failed"},
            {"status": "failed", "message": "no upstream"},
            {"status": "failed", "error": "no upstream"},
            {"status": "failed", "error": {"message": "no upstream", "code": 502}, "data": [{"url": LINK}]},
            {"status": "completed"},
            {"status": "completed", "data": [{"url": ""}]},
            {"status": "completed", "message": "the request was handled", "poll_url": "/v1/tasks/t2"},
        ):
            expected = noise(f"HTTP 200 with status {value['status']!r} and without the task's id", 7.0)
            named = {name: text for name, text in value.items() if asked or name != "poll_url"}
            assert polled(answer(named, retry_after="7"), asked) == expected


def test_poll_answer_about_another_task_is_noise():
    """Its picture belongs to another task."""
    for value in (
        *({**FAILED, "status": status} for status in ("pending", "completed", "failed", "odd")),
        {**DONE, "task_id": "T2", "id": "t1"},
        {"id": "t2", "status": "completed", "data": [{"url": LINK}]},
        {"id": 2, "status": "completed", "data": [{"url": LINK}]},
    ):
        other = {**value, "task_id": "t2"} if value.get("task_id") == "t1" else value
        reading = polled(answer(other), "t1")
        assert isinstance(reading, PollFailure)
        assert reading.reason.startswith("HTTP 200 about another task, ")


def test_picture_counts_without_a_name():
    """It is the response to this poll, and it is paid for."""
    for value in (
        {"status": "completed", "data": [{"url": LINK}]},
        {"data": [{"url": LINK}]},
        {"status": "completed", "data": [{"url": LINK}], "poll_url": "/v1/images/generations/17"},
        {**DONE, "task_id": None, "id": None},
        {**DONE, "task_id": 51, "id": "t1"},
    ):
        assert polled(answer(value), "t1").snapshot.images


@pytest.mark.parametrize(("asked", "task_id"), [("51", 51), ("51", "51"), (None, "t9"), ("", "t9")])
def test_id_may_be_a_number_and_any_will_do_where_only_the_address_is_known(asked, task_id):
    assert isinstance(polled(answer({**FAILED, "task_id": task_id}), asked), PollSuccess)


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("soon", None), ("-1", 0.0)])
def test_poll_of_a_pending_task_may_ask_to_be_left_alone(header, seconds):
    assert polled(answer({"task_id": "t1", "status": "pending"}, retry_after=header)).retry_after_s == seconds


def test_poll_of_an_unknown_task_keeps_the_services_words():
    """The page "Get image status" has the code and the message."""
    reading = read_poll(answer(LOST, 404), None)
    assert reading.error.code == "async_task_not_found"
    assert reading.error.message == "Task not found or no longer available."


def test_poll_denied_keeps_the_services_words():
    assert read_poll(answer(REFUSAL, 403), None).error.message == "no such model"


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [
        (429, "7", noise("HTTP 429 without a task", retry_after_s=7.0)),
        (429, "soon", noise("HTTP 429 without a task")),
        (503, "7", noise("HTTP 503 without a task", retry_after_s=7.0)),
        (200, "7", noise("HTTP 200 without a task", retry_after_s=7.0)),
    ],
)
def test_poll_failure_has_the_seconds_to_wait(status, retry_after, expected):
    assert polled(answer(REFUSAL, status, retry_after=retry_after)) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
words = st.sampled_from(
    ["pending", "completed", "failed", "t1", "", LINK, "data:a;base64,", "/v1/tasks/t1", "45%", "nan", "\x1b"]
)
loose = json_values | words
entries = st.fixed_dictionaries({}, optional=dict.fromkeys(["url", "b64_json", "revised_prompt", "odd"], loose))
faults = st.fixed_dictionaries({}, optional=dict.fromkeys(["message", "code", "type"], loose))
OPTIONAL = [
    "created",
    "model",
    "progress",
    "usage",
    "billing_transaction_id",
    "cancelled",
    "updated",
    "error",
    "object",
]
OUR_ATTRIBUTES = ["billing", "images", "fault", "is_cancelled"]  # which mean nothing out there
shaped = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["status", "task_id", "id", "poll_url", *OPTIONAL, *OUR_ATTRIBUTES], loose),
        "data": st.lists(entries | loose, max_size=3) | loose,
        "error": faults | loose,
    },
)
bodies = st.one_of(st.binary(max_size=60), json_values.map(orjson.dumps), shaped.map(orjson.dumps))
header_maps = st.dictionaries(
    st.sampled_from(["retry-after", "x-request-id", "content-encoding", "x-odd"]) | st.text(max_size=5),
    st.sampled_from(["gzip", "deflate", "identity", "5", "-1", "nan", "1e400"]) | st.text(max_size=10),
    max_size=3,
)


def check_snapshot(found):
    assert isinstance(found.status, str)
    assert found.status
    for text in (found.task_id, found.poll_url, found.model, found.billing.transaction_id):
        assert text is None or (isinstance(text, str) and text)
    assert found.task_id is None or found.task_id.isprintable()
    assert found.status.isprintable()
    assert all(image.is_usable for image in found.images)
    assert found.created is None or type(found.created) is int
    assert found.progress is None or math.isfinite(found.progress)
    assert found.fault is None or found.fault.message.isprintable()
    assert found.billing.usage is None or isinstance(found.billing.usage, dict)
    assert all(name.startswith("x-") for name in found.billing.headers)


@settings(steady, max_examples=80)
@given(st.integers(100, 599), header_maps, bodies)
@example(200, {}, b"[" * 100_000)
@example(200, {}, b'{"task_id": "\\ud800"}')
@example(200, {}, b'{"task_id": "t1", "progress": 1e400}')
def test_submission_of_anything_is_read_without_raising(status, headers, body):
    reading = read_submission(Response(status, headers, body))
    if isinstance(reading, Accepted):
        assert 200 <= status < 300
        assert reading.snapshot.task_id or reading.snapshot.images
        check_snapshot(reading.snapshot)
    elif isinstance(reading, Refused):
        assert status >= 400
    else:
        assert isinstance(reading, UnknownOutcome)
        assert reading.reason.isprintable()


@settings(steady, max_examples=80)
@given(st.integers(100, 599), header_maps, bodies)
def test_poll_of_anything_is_read_without_raising(status, headers, body):
    reading = polled(Response(status, headers, body))
    if isinstance(reading, PollSuccess):
        assert 200 <= status < 300
        check_snapshot(reading.snapshot)
    else:
        assert reading.reason.isprintable()
        assert reading.retry_after_s is None or (math.isfinite(reading.retry_after_s) and reading.retry_after_s >= 0)
        assert reading.failure is not Failure.NOT_FOUND or status == 404
        assert reading.failure is not Failure.REFUSED or status in {401, 403}


optional_fields = st.fixed_dictionaries({}, optional=dict.fromkeys(OPTIONAL + OUR_ATTRIBUTES, loose))


@steady
@given(optional_fields, loose)
def test_images_are_never_lost_to_odd_optional_fields(fields, odd):
    entry = {"url": LINK, "revised_prompt": odd, "odd": odd}
    assert snapshot({**fields, "data": [odd, entry, {"b64_json": PIXEL}]}).images[-2:] == (
        ImageData(url=LINK, revised_prompt=odd if isinstance(odd, str) and odd else None),
        ImageData(inline=Same(PIXEL)),
    )


@steady
@given(optional_fields, loose, loose)
def test_task_is_never_lost_to_odd_optional_fields(fields, odd_data, odd_id):
    found = snapshot(
        {**fields, "status": "pending", "task_id": "t1", "id": odd_id, "poll_url": "/v1/x/t1", "data": odd_data}
    )
    assert (found.status, found.task_id, found.poll_url) == ("pending", "t1", "/v1/x/t1")


# Packed


snapshots = st.builds(
    TaskSnapshot,
    status=st.text(max_size=3),
    task_id=st.none() | st.text(max_size=3),
    is_id_guessed=st.booleans(),
    poll_url=st.none() | st.text(max_size=3),
    images=st.lists(
        st.builds(ImageData, st.none() | st.text(max_size=3), st.none() | st.builds(Inline, st.binary(max_size=3)))
    ).map(tuple),
    created=st.none() | st.integers(),
    model=st.none() | st.text(max_size=3),
    progress=st.none() | st.floats(allow_nan=False),
    fault=st.none() | st.builds(TaskFault, st.text(max_size=3), st.none() | st.text(max_size=3)),
    is_cancelled=st.booleans(),
    billing=st.builds(
        Billing,
        st.none() | st.text(max_size=3),
        st.none() | st.dictionaries(st.text(max_size=3), st.integers()),
        st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
    ),
)


@steady
@given(snapshot=snapshots)
def test_packed_snapshot_unpacks_to_an_equal_one(snapshot):
    assert unpack(pack(snapshot)) == snapshot


def test_garbage_collector_does_not_follow_a_packed_snapshot():
    """Neither while the task waits nor once it has a link and headers."""
    kept = [pack(read_submission(answer(body, x_request_id="r1")).snapshot) for body in (DONE, {"task_id": "t1"})]
    for _ in range(3):  # one level of nesting each
        gc.collect()
    assert not any(map(gc.is_tracked, kept))
