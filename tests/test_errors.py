"""Errors form a tree, have plain messages, and survive pickling."""

import copy
import inspect
import pickle
import threading
from pathlib import Path

import pytest

from lemon_async import errors
from lemon_async.errors import (
    AccessDenied,
    ApiError,
    AuthenticationError,
    BadRequest,
    BatchPaused,
    Conflict,
    ContractError,
    DownloadError,
    InsufficientBalance,
    JournalError,
    LemonError,
    NotFound,
    PartialSaveError,
    PayloadTooLarge,
    RateLimited,
    SaveError,
    ServerError,
    SessionError,
    SubmissionUnknown,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskTimeout,
    TransportError,
)
from lemon_async.requests import EditRequest, GenerateRequest, GoneSource, VariationRequest
from lemon_async.types import ImageData, Inline, Problem


class Task:
    """A live task: it belongs to its process, as its lock shows."""

    def __init__(self, id_):
        self.id = id_
        self._lock = threading.Lock()

    def resume_token(self):
        if self.id is None:
            raise AssertionError("nothing to resume")
        return f"token of {self.id}"


TASK = Task("ldtask_1")
REQUEST = GenerateRequest("a cat", model="flux-pro")
HINTS = {
    "status": 400,
    "message": "no such model",
    "code": "model_not_found",
    "type": "invalid_request_error",
    "param": "model",
    "hint": "see GET /v1/models",
    "did_you_mean": "flux-pro",
    "suggestions": ("flux-pro", "flux-schnell"),
    "alternatives": ({"id": "flux-schnell", "status": "ok"},),
    "retryable": False,
    "retry_after": 1.5,
    "balance_usd": 0.5,
    "estimated_cost_usd": 0.75,
    "upstream": {"provider": "bfl", "status": 502},
    "validation_errors": ({"field": "model", "message": "unknown", "code": "enum"},),
    "request_id": "req_9",
    "headers": {"x-request-id": "req_9"},
}
STATUS_CLASSES = [
    BadRequest,
    AuthenticationError,
    InsufficientBalance,
    AccessDenied,
    NotFound,
    Conflict,
    PayloadTooLarge,
    RateLimited,
    ServerError,
]

EXAMPLES = [
    (LemonError, {}, ""),
    (
        ContractError,
        {"problems": (Problem("n", "must be a whole number from 1 to 10"),)},
        "n: must be a whole number from 1 to 10 (nothing was sent)",
    ),
    (
        ContractError,
        {"problems": (Problem("n", "is odd"), Problem("size", "is odder"))},
        "2 problems, nothing was sent:\n  - n: is odd\n  - size: is odder",
    ),
    (errors._MessageError, {"message": "broken"}, "broken"),
    (JournalError, {"message": "run.db: the disk is full"}, "run.db: the disk is full"),
    (BatchPaused, {"message": "the budget is spent"}, "the budget is spent"),
    (SessionError, {"message": "the session is closed"}, "the session is closed"),
    (TransportError, {"message": "no route to host"}, "no route to host"),
    (
        SubmissionUnknown,
        {"request": REQUEST, "fingerprint": "0123456789abcdef", "reason": "HTTP 502 with an HTML page", "status": 502},
        (
            "the paid request was sent, but its outcome is unknown: HTTP 502 with an HTML page. It may have been "
            "billed and is not sent again; look for it in your account before you submit it again "
            "(fingerprint 0123456789ab)"
        ),
    ),
    (
        SubmissionUnknown,
        {
            "request": EditRequest("a hat", image=[b"\x89PNG", "cat.png"], mask="hat.png", model="gpt-image-2"),
            "fingerprint": "fedcba9876543210",
            "reason": "the stream ended without a finished picture",
            "partial_images": (ImageData(url="https://cdn.example/0.png"), ImageData(url="https://cdn.example/1.png")),
            "request_id": "req_9",
            "headers": {"x-request-id": "req_9"},
        },
        (
            "the paid request was sent, but its outcome is unknown: the stream ended without a finished picture. It "
            "may have been billed and is not sent again; look for it in your account before you submit it again "
            "(fingerprint fedcba987654)"
        ),
    ),
    (ApiError, {"status": 418, "message": "a teapot"}, "HTTP 418: a teapot"),
    *(
        (
            cls,
            HINTS,
            (
                "HTTP 400 model_not_found: no such model; see GET /v1/models; did you mean 'flux-pro'?; "
                "model: unknown; request id req_9"
            ),
        )
        for cls in STATUS_CLASSES
    ),
    (TaskError, {"task": TASK, "reason": "something broke"}, "task ldtask_1 failed: something broke"),
    (TaskFailed, {"task": TASK, "reason": "out of paint"}, "task ldtask_1 failed: out of paint"),
    (
        TaskFailed,
        {"task": TASK, "reason": "out of paint", "code": "no_paint"},
        "task ldtask_1 failed: out of paint (no_paint)",
    ),
    (TaskFailed, {"task": Task(None), "reason": "no image"}, "task (answered inline) failed: no image"),
    (TaskFailed, {"reason": "no image"}, "task (answered inline) failed: no image"),
    (
        TaskFailed,
        {"task": TASK, "reason": "out of paint", "request_id": "req_9", "headers": {"x-billing": "0"}},
        "task ldtask_1 failed: out of paint",
    ),
    (TaskCancelled, {"task": TASK, "reason": "as asked"}, "task ldtask_1 was cancelled: as asked"),
    (
        TaskTimeout,
        {"task": TASK, "reason": "900 s have passed"},
        (
            "task ldtask_1 is not finished: 900 s have passed. It may still finish and be billed; "
            "session.task(error.resume_token) resumes it"
        ),
    ),
    (TaskLost, {"task": TASK, "reason": "not found"}, "task ldtask_1 is lost: not found"),
    (
        DownloadError,
        {"task": TASK, "url": "https://cdn.example/1.png", "reason": "HTTP 410 Gone", "status": 410},
        "could not fetch https://cdn.example/1.png: HTTP 410 Gone",
    ),
    (
        SaveError,
        {"task": TASK, "path": "out/1.png", "reason": "No space left on device", "errno": 28, "index": 0},
        "could not save 'out/1.png': No space left on device (picture 1 of the response)",
    ),
    (
        PartialSaveError,
        {"saved": {0: Path("0-a-cat.png")}, "errors": {1: SaveError(path="1.png", reason="odd", index=1)}},
        "1 of 2 pictures were not saved:\n  - could not save '1.png': odd (picture 2 of the response)",
    ),
]


def raised(error, cause=None):
    """Return an error that has a traceback, as users meet it."""
    try:
        raise error from cause
    except LemonError as caught:
        return caught


def facts(error):
    """Return the values of an error except its task; nested errors as text, because they compare by identity."""
    known = {name: value for name, value in vars(error).items() if name != "task"}
    return {**known, "errors": {index: repr(inner) for index, inner in known.get("errors", {}).items()}}


def test_error_tree_is_split_by_whose_fault_it_is():
    parents = {
        ContractError: LemonError,
        SessionError: errors._MessageError,
        TransportError: errors._MessageError,
        JournalError: errors._MessageError,
        BatchPaused: errors._MessageError,
        errors._MessageError: LemonError,
        SubmissionUnknown: LemonError,
        ApiError: LemonError,
        **dict.fromkeys(STATUS_CLASSES, ApiError),
        TaskError: LemonError,
        TaskFailed: TaskError,
        TaskCancelled: TaskError,
        TaskTimeout: TaskError,
        TaskLost: TaskError,
        DownloadError: LemonError,
        SaveError: LemonError,
        PartialSaveError: LemonError,
        LemonError: Exception,
    }
    found = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)}
    assert found == set(parents)
    assert {cls: cls.__bases__ for cls in parents} == {cls: (parent,) for cls, parent in parents.items()}


def test_error_module_exports_every_class_and_what_they_hold():
    classes = {name for name, _ in inspect.getmembers(errors, inspect.isclass) if hasattr(LemonError, "__copy__")}
    assert set(errors.__all__) == {
        name for name in classes if getattr(errors, name).__module__ == errors.__name__ and name[0] != "_"
    }


def test_every_error_has_an_example_here():
    assert {cls for cls, _, _ in EXAMPLES} == {
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, LemonError)
    }


def test_error_has_this_message():
    for cls, values, words in EXAMPLES:
        assert str(cls(**values)) == words


def test_error_has_its_message_in_args():
    for cls, values, words in EXAMPLES:
        assert cls(**values).args == (words,)


def test_error_keeps_every_value_it_is_given():
    for cls, values, _words in EXAMPLES:
        error = cls(**values)
        assert {name: getattr(error, name) for name in values} == values


def test_error_takes_keywords_only():
    for cls, values, _words in EXAMPLES:
        if values:
            with pytest.raises(TypeError):
                cls(*values.values())


def test_error_repr_shows_neither_the_task_nor_headers():
    """A live task holds a session, and headers hold whatever a server sent."""
    for cls, values, _words in EXAMPLES:
        shown = repr(cls(**values))
        assert shown.startswith(f"{cls.__name__}(")
        assert not {"task", "resume_token", "headers"} & {part.rpartition(" ")[2] for part in shown.split("=")}


def test_error_survives_pickle_without_its_task():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for cls, values, words in EXAMPLES:
            error = raised(cls(**values))
            error.add_note("seen by worker 7")
            twin = pickle.loads(pickle.dumps(error, protocol))
            assert type(twin) is cls
            assert twin.task is None
            assert facts(twin) == facts(error)
            assert twin.__notes__ == ["seen by worker 7"]
            assert str(twin) == words
            assert twin.args == error.args


def test_error_of_any_class_keeps_the_request_id_and_the_headers():
    """For the service's support, and to find the bill."""
    for trip in (copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))):
        for cls, values, _words in EXAMPLES:
            headers = {"x-request-id": "req_7", "x-billing": "0.04"}
            twin = trip(raised(cls(**{**values, "request_id": "req_7", "headers": headers})))
            assert (twin.request_id, twin.headers) == ("req_7", headers)
            assert twin.resume_token == cls(**values).resume_token


def test_error_has_neither_request_id_nor_headers_by_default():
    for cls, values, _words in EXAMPLES:
        error = cls(**{name: value for name, value in values.items() if name not in {"request_id", "headers"}})
        assert (error.request_id, error.headers) == (None, {})
        assert error.headers is not cls(**values).headers


def unknown_outcome_of(request):
    return SubmissionUnknown(request=request, fingerprint="0123", reason="reset")


def test_submission_unknown_survives_pickle_without_a_live_source(tmp_path):
    """A journal must be able to store it, whatever the request started from."""
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG")
    with path.open("rb") as file:
        error = unknown_outcome_of(EditRequest("a hat", image=[file, memoryview(b"\x89PNG")], mask="hat.png"))
        gone = GoneSource(repr(file))
        twins = [pickle.loads(pickle.dumps(error)), copy.deepcopy(error)]
        assert [twin.request for twin in twins] == [EditRequest("a hat", image=[gone, b"\x89PNG"], mask="hat.png")] * 2
        assert copy.copy(error).request.image[0] is file


def test_submission_unknown_shows_no_picture_in_its_repr():
    """Neither sources nor previews."""
    pictures = (ImageData(inline=Inline(bytes(1_000_000))),)
    error = unknown_outcome_of(VariationRequest(image=bytes(1_000_000)))
    error.partial_images = pictures
    assert len(repr(error)) < 1000
    assert "<1000000 bytes>" in repr(error)


def test_error_survives_deepcopy_without_its_task():
    for cls, values, words in EXAMPLES:
        twin = copy.deepcopy(cls(**values))
        assert type(twin) is cls
        assert twin.task is None
        assert str(twin) == words


def test_error_copy_keeps_the_task_and_the_cause_and_drops_the_traceback():
    for cls, values, words in EXAMPLES:
        cause = OSError("the wire broke")
        error = raised(cls(**values), cause)
        twin = copy.copy(error)
        assert type(twin) is cls
        assert twin is not error
        assert vars(twin) == vars(error)
        assert twin.task is values.get("task")
        assert twin.__cause__ is cause
        assert twin.__traceback__ is None
        assert error.__traceback__ is not None
        assert twin.args == error.args
        assert str(twin) == words


def test_error_copies_are_independent():
    error = TransportError(message="no route")
    copy.copy(error).message = "changed"
    assert error.message == "no route"


def test_errors_are_compared_by_identity():
    for cls, values, _words in EXAMPLES:
        error = cls(**values)
        assert error != cls(**values)
        assert len({error, copy.copy(error)}) == 2


@pytest.mark.parametrize("name", ["resume_token", "task_id"])
def test_error_takes_token_and_id_from_its_task_only(name):
    with pytest.raises(TypeError):
        TaskFailed(reason="no image", **{name: "another"})


@pytest.mark.parametrize("cls", [TaskFailed, TaskTimeout, TaskLost, TaskCancelled])
def test_task_error_carries_the_token_of_its_task(cls):
    error = cls(task=TASK, reason="")
    assert error.resume_token == "token of ldtask_1"
    assert error.task_id == "ldtask_1"
    assert pickle.loads(pickle.dumps(error)).resume_token == "token of ldtask_1"
    assert pickle.loads(pickle.dumps(error)).task_id == "ldtask_1"


@pytest.mark.parametrize("cls", [ApiError, AccessDenied])
def test_api_error_after_a_sale_carries_its_task_too(cls):
    error = cls(status=403, message="not yours", task=TASK)
    assert error.task is TASK
    assert error.resume_token == "token of ldtask_1"


@pytest.mark.parametrize("task", [None, Task(None)])
def test_error_without_a_task_to_resume_has_no_token(task):
    error = TaskFailed(task=task, reason="no image")
    assert error.resume_token is None
    assert error.task_id is None


def test_errors_can_be_inherited_from_together_with_others():
    """An application may want its own `except TimeoutError` to catch ours."""

    class Slow(TaskTimeout, TimeoutError):
        pass

    error = Slow(task=TASK, reason="slow")
    assert isinstance(copy.copy(error), TimeoutError)
    assert copy.copy(error).reason == "slow"
    assert str(error) == str(TaskTimeout(task=TASK, reason="slow"))


def test_api_error_has_no_hints_by_default():
    error = ApiError(status=500, message="broken")
    unset = {name: getattr(error, name) for name in HINTS if name not in {"status", "message"}}
    assert {name: value for name, value in unset.items() if value is not None} == {
        "suggestions": (),
        "alternatives": (),
        "validation_errors": (),
        "headers": {},
    }


def test_problem_reads_as_field_and_message():
    assert str(Problem("size", "is odd")) == "size: is odd"


class Labelled(Task):
    """The attributes of a task that errors use."""

    label = None
    prompt = "a cat"
    request = None


def test_error_calls_a_task_by_its_label_or_a_resumed_one_by_its_prompt():
    """The message names it after pickling, too."""
    for facts, name in (
        ({}, "task ldtask_1 ('a cat')"),
        ({"label": "sku-17"}, "task ldtask_1 (sku-17)"),
        ({"request": REQUEST}, "task ldtask_1"),
        ({"request": REQUEST, "label": "sku-17"}, "task ldtask_1 (sku-17)"),
        ({"prompt": None}, "task ldtask_1"),
        ({"prompt": "x\n" * 100}, f"task ldtask_1 ('{'x' + chr(92) + 'n'}"),
    ):
        task = Labelled("ldtask_1")
        vars(task).update(facts)
        error = TaskLost(task=task, reason="gone")
        assert str(error).startswith(name)
        assert len(str(error)) < 150
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_session_error_names_the_task_that_can_be_resumed():
    error = SessionError(message="the session was closed while the task was pending", task=TASK)
    assert str(error) == (
        "the session was closed while the task was pending; task ldtask_1 can be resumed by its resume_token()"
    )
    assert error.message == "the session was closed while the task was pending"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(SessionError(message="m", task=Task(None))) == "m"
