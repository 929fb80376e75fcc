"""The errors: their tree, their words, and that they survive a trip to another process."""

import copy
import inspect
import pickle
import threading

import pytest

from lemon_async.api import errors
from lemon_async.api.errors import (
    AccessDenied,
    ApiError,
    AuthenticationError,
    BadRequest,
    Conflict,
    ContractError,
    DownloadError,
    InsufficientBalance,
    LemonError,
    NotFound,
    PayloadTooLarge,
    Problem,
    RateLimited,
    ServerError,
    SessionMisuse,
    SubmissionUnknown,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskTimeout,
    TransportError,
)
from lemon_async.api.models import GenerateRequest


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
    (SessionMisuse, {"message": "the session is closed"}, "the session is closed"),
    (TransportError, {"message": "no route to host"}, "no route to host"),
    (
        SubmissionUnknown,
        {"request": REQUEST, "fingerprint": "0123456789abcdef", "reason": "HTTP 502 with an HTML page", "status": 502},
        (
            "the paid request was sent, but its fate is unknown: HTTP 502 with an HTML page. It may have been sold and "
            "is not sent again; look for it in your account before you submit it anew (fingerprint 0123456789ab)"
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
    (TaskCancelled, {"task": TASK, "reason": "as asked"}, "task ldtask_1 was cancelled: as asked"),
    (
        TaskTimeout,
        {"task": TASK, "reason": "900 s have passed"},
        (
            "task ldtask_1 is not finished: 900 s have passed. It may still finish and be billed; "
            "session.task(error.resume_token) picks it up again"
        ),
    ),
    (TaskLost, {"task": TASK, "reason": "not found"}, "task ldtask_1 is lost: not found"),
    (
        DownloadError,
        {"task": TASK, "url": "https://cdn.example/1.png", "reason": "HTTP 410 Gone", "status": 410},
        "could not fetch https://cdn.example/1.png: HTTP 410 Gone",
    ),
]
every_error = pytest.mark.parametrize(
    ("cls", "values", "words"),
    [pytest.param(*example, id=example[0].__name__) for example in EXAMPLES],
)


def raised(error, cause=None):
    """Return an error that has a traceback, as users meet it."""
    try:
        raise error from cause
    except LemonError as caught:
        return caught


def facts(error):
    """Return what an error knows, the task apart."""
    return {name: value for name, value in vars(error).items() if name != "task"}


def test_error_tree_is_split_by_whose_fault_it_is():
    parents = {
        ContractError: LemonError,
        SessionMisuse: LemonError,
        TransportError: LemonError,
        SubmissionUnknown: LemonError,
        ApiError: LemonError,
        **dict.fromkeys(STATUS_CLASSES, ApiError),
        TaskError: LemonError,
        TaskFailed: TaskError,
        TaskCancelled: TaskError,
        TaskTimeout: TaskError,
        TaskLost: TaskError,
        DownloadError: LemonError,
        LemonError: Exception,
    }
    found = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)}
    assert found == set(parents)
    assert {cls: cls.__bases__ for cls in parents} == {cls: (parent,) for cls, parent in parents.items()}


def test_error_module_exports_every_class_and_what_they_hold():
    classes = {name for name, _ in inspect.getmembers(errors, inspect.isclass) if hasattr(LemonError, "__copy__")}
    assert set(errors.__all__) == {name for name in classes if getattr(errors, name).__module__ == errors.__name__}


def test_every_error_has_an_example_here():
    assert {cls for cls, _, _ in EXAMPLES} == {
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, LemonError)
    }


@every_error
def test_error_says_exactly_this(cls, values, words):
    assert str(cls(**values)) == words


@every_error
def test_error_has_its_words_for_whoever_reads_args(cls, values, words):
    assert cls(**values).args == (words,)


@every_error
def test_error_keeps_every_value_it_is_given(cls, values, words):
    error = cls(**values)
    assert {name: getattr(error, name) for name in values} == values


@every_error
def test_error_takes_keywords_only(cls, values, words):
    if values:
        with pytest.raises(TypeError):
            cls(*values.values())


@every_error
def test_error_repr_shows_neither_the_task_nor_headers(cls, values, words):
    """A live task holds a session, and headers hold whatever a server sent."""
    shown = repr(cls(**values))
    assert shown.startswith(f"{cls.__name__}(")
    assert not {"task", "resume_token", "headers"} & {part.rpartition(" ")[2] for part in shown.split("=")}


@every_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_error_survives_pickle_without_its_task(cls, values, words, protocol):
    error = raised(cls(**values))
    error.add_note("seen by worker 7")
    twin = pickle.loads(pickle.dumps(error, protocol))
    assert type(twin) is cls
    assert twin.task is None
    assert facts(twin) == facts(error)
    assert twin.__notes__ == ["seen by worker 7"]
    assert str(twin) == words
    assert twin.args == error.args


@every_error
def test_error_survives_deepcopy_without_its_task(cls, values, words):
    twin = copy.deepcopy(cls(**values))
    assert type(twin) is cls
    assert twin.task is None
    assert str(twin) == words


@every_error
def test_error_copy_keeps_the_task_and_the_cause_and_drops_the_traceback(cls, values, words):
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


@every_error
def test_errors_are_told_apart_by_identity(cls, values, words):
    error = cls(**values)
    assert error != cls(**values)
    assert len({error, copy.copy(error)}) == 2


@pytest.mark.parametrize("name", ["resume_token", "task_id"])
def test_error_asks_its_task_and_nobody_else_for_the_way_back(name):
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


def test_api_error_says_only_what_it_was_told():
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
