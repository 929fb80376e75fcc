"""Map error responses to exceptions ("Errors" page of the documentation).

Any response maps to an exception. The proof that a paid request was not accepted needs more:

    status     proof
    400-499    the service's error object, unless the status says that a gateway stopped waiting
    500-599    the service's error object with a code that is documented for a 5xx: gateways answer in JSON, too, and
               do not know the outcome of the request
    any        none, if the response names a task or has data, because then a job was accepted
"""

from collections.abc import Mapping
from enum import Enum, auto
from functools import partial
from itertools import islice
from typing import Any

from lemon_async import errors
from lemon_async._api.response import Response, Unreadable, number_of, retry_after_s
from lemon_async._formats.json_documents import one_line
from lemon_async.types import ResumableTask, TaskFault, TaskSnapshot

__all__ = [
    "Failure",
    "api_error",
    "classify",
    "classify_status",
    "error_object",
    "is_proof_of_refusal",
    "request_id_of",
    "task_failure",
]

_CLASSES: Mapping[int, type[errors.ApiError]] = {
    400: errors.BadRequest,
    401: errors.AuthenticationError,
    402: errors.InsufficientBalance,
    403: errors.AccessDenied,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.PayloadTooLarge,
    429: errors.RateLimited,
}
_FIRST_SERVER_ERROR = 500
# Request timeout, client closed request: gateways that have passed a request on and stopped waiting send these.
_GIVEN_UP = frozenset({408, 460, 499})
_SERVER_CODES = frozenset({"server_error", "upstream_error", "all_channels_failed", "timeout_error"})
_MAX_HINTS = 20
_MAX_ENTRIES_OF_A_HINT = 10
_line = partial(one_line, max_chars=500)  # of a hint


class Failure(Enum):
    """How a request failed; `_pace.retry` says what may follow."""

    NOT_SENT = auto()  # no connection, or no slot in the rate limit
    TRY_LATER = auto()  # refused; the service expects the same request again
    REFUSED = auto()  # refused for good
    NOT_FOUND = auto()  # the service does not know the task, which may be lag right after its creation
    TRANSIENT = auto()  # a server or a gateway failed, or a transfer broke off
    UNKNOWN = auto()  # sent, and it may have been executed


def classify(error: errors.LemonError) -> Failure:
    """Return how a request failed that ended in an error."""
    match error:
        case errors.SubmissionUnknown():
            return Failure.UNKNOWN
        case errors.TransportError():
            return Failure.UNKNOWN if error.was_sent else Failure.NOT_SENT
        case errors.ApiError(status=503, retryable=True) if _is_server_code(error.code):
            return Failure.TRY_LATER
        case errors.ApiError():
            return classify_status(error.status)
        case _:
            return Failure.REFUSED


def classify_status(status: int) -> Failure:
    """Return how a request failed, by its HTTP status alone."""
    if status == 429:
        return Failure.TRY_LATER
    return Failure.TRANSIENT if status >= _FIRST_SERVER_ERROR or status == 408 else Failure.REFUSED


def error_object(parsed: object) -> Mapping[str, Any] | None:
    """Return the service's error object in a parsed body, or `None` if there is none."""
    error = parsed.get("error") if isinstance(parsed, Mapping) else None
    if isinstance(error, Mapping) and isinstance(error.get("message", error.get("code")), str):
        return error
    return None


def api_error(response: Response) -> errors.ApiError:
    """Return the exception for a response that is not a success, readable or not."""
    try:
        parsed = response.json()
    except Unreadable as fault:
        parsed, words = None, f"the response is {fault}"
    else:
        words = response.summary()
    error = error_object(parsed) or {}
    status = response.status
    cls = _CLASSES.get(status, errors.ServerError if status >= _FIRST_SERVER_ERROR else errors.ApiError)
    return cls(
        status=status,
        message=one_line(error.get("message")) or one_line(error.get("code")) or words,
        **_hints(error),
        validation_errors=_mappings(parsed.get("validation_errors") if isinstance(parsed, Mapping) else None),
        retry_after=_retry_after(response, error),
        request_id=request_id_of(response.headers) or one_line(error.get("request_id")),
        headers=dict(response.headers),
    )


def is_proof_of_refusal(status: int, parsed: object) -> bool:
    """Return whether the status and the error object of a response prove that a paid request was not accepted."""
    error = error_object(parsed)
    if status < 400 or status in _GIVEN_UP or error is None:
        return False
    return status < _FIRST_SERVER_ERROR or _is_server_code(error.get("code"))


def _is_server_code(code: object) -> bool:
    return isinstance(code, str) and code in _SERVER_CODES


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the id to quote to the service's support."""
    return one_line(headers.get("x-request-id"))


def task_failure(snapshot: TaskSnapshot, task: ResumableTask) -> errors.TaskFailed | errors.TaskCancelled:
    """Return the error for a task that has ended without a usable image."""
    fault = snapshot.fault or TaskFault("the service gave no reason")
    headers = snapshot.billing.headers
    context: dict[str, Any] = {"task": task, "headers": headers, "request_id": request_id_of(headers)}
    if snapshot.status == "completed":
        return errors.TaskFailed(reason="it completed without a usable image", **context)
    if snapshot.is_cancelled:
        return errors.TaskCancelled(reason=fault.message, **context)
    return errors.TaskFailed(reason=fault.message, code=fault.code, **context)


def _hints(error: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optional hints, except those of an unexpected type."""
    suggestions = _mappings(error.get("suggestions"))
    return {
        **{name: one_line(error.get(name)) for name in ("code", "type", "param", "hint", "did_you_mean")},
        **{name: number_of(error.get(name)) for name in ("balance_usd", "estimated_cost_usd")},
        "retryable": error["retryable"] if isinstance(error.get("retryable"), bool) else None,
        "suggestions": tuple(s["id"] for s in suggestions if isinstance(s.get("id"), str)),
        "alternatives": _mappings(error.get("alternatives")),
        "upstream": _lines(error.get("upstream")),
    }


def _retry_after(response: Response, error: Mapping[str, Any]) -> float | None:
    """Return the seconds in the header, or those in the body if the header has no plausible ones."""
    values = (response.headers.get("retry-after"), error.get("retry_after"))
    waits = (retry_after_s(value, received_at=response.received_at) for value in values)
    return next((wait_s for wait_s in waits if wait_s is not None), None)


def _mappings(value: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list):
        return ()
    return tuple(_lines(entry) for entry in value[:_MAX_HINTS] if isinstance(entry, Mapping))


def _lines(value: Any) -> Any:
    """Return the beginning of a hint, its texts as printable lines for terminals and logs."""
    if isinstance(value, Mapping):
        entries = islice(value.items(), _MAX_ENTRIES_OF_A_HINT)
        return {name: _line(item) or "" if isinstance(item, str) else item for name, item in entries}
    return _line(value) if isinstance(value, str) else value
