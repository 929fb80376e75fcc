"""From a refusing answer to the error that a caller catches ("Errors" page of the documentation).

What proves that a paid request was not sold is stricter than what makes an error:

    status     proof
    400-499    the service's error object, unless the status says that something in front gave up waiting
    500-599    the service's error object with a code that is documented for a 5xx: gateways and frameworks in front
               answer in JSON as well, and do not know what became of the request
    any        none, if the answer names a task or has data: then something was sold
"""

from collections.abc import Mapping
from enum import Enum, auto
from itertools import islice
from typing import Any

from lemon_async._api.response import Response, Unreadable, retry_after_s
from lemon_async._formats.safe_text import one_line
from lemon_async.errors import (
    AccessDenied,
    ApiError,
    AuthenticationError,
    BadRequest,
    Conflict,
    InsufficientBalance,
    LemonError,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    ServerError,
    SubmissionUnknown,
    TransportError,
)

__all__ = [
    "Failure",
    "api_error",
    "classify",
    "classify_status",
    "error_object",
    "is_proof_of_refusal",
    "request_id_of",
]

_CLASSES: Mapping[int, type[ApiError]] = {
    400: BadRequest,
    401: AuthenticationError,
    402: InsufficientBalance,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    429: RateLimited,
}
_FIRST_SERVER_ERROR = 500
# Request timeout, client closed request: gateways answer so when they have passed a request on and wait no longer.
_GIVEN_UP = frozenset({408, 460, 499})
_SERVER_CODES = frozenset({"server_error", "upstream_error", "all_channels_failed", "timeout_error"})
_MAX_HINTS = 20
_MAX_ENTRIES_OF_A_HINT = 10
_LONGEST_HINT = 500


class Failure(Enum):
    """What became of a request that failed; `_pace.retry` says what may follow."""

    NOT_SENT = auto()  # no connection, or no slot in the rate limit
    TRY_LATER = auto()  # refused; the service expects the same request again
    REFUSED = auto()  # refused for good
    NOT_FOUND = auto()  # the service does not know the task, which may be lag right after its creation
    TRANSIENT = auto()  # a server or a gateway failed, or a transfer broke off
    UNKNOWN = auto()  # sent, and it may have been executed


def classify(error: LemonError) -> Failure:
    """Return what became of a request that ended in an error."""
    match error:
        case SubmissionUnknown():
            return Failure.UNKNOWN
        case TransportError():
            return Failure.UNKNOWN if error.was_sent else Failure.NOT_SENT
        case ApiError(status=503, retryable=True) if _is_server_code(error.code):
            return Failure.TRY_LATER
        case ApiError():
            return classify_status(error.status)
        case _:
            return Failure.REFUSED


def classify_status(status: int) -> Failure:
    """Return what the HTTP status of a refusal says on its own."""
    if status == 429:
        return Failure.TRY_LATER
    return Failure.TRANSIENT if status >= _FIRST_SERVER_ERROR or status == 408 else Failure.REFUSED


def error_object(parsed: object) -> Mapping[str, Any] | None:
    """Return the service's own error object out of a parsed body, or `None` when this is not one."""
    error = parsed.get("error") if isinstance(parsed, Mapping) else None
    if isinstance(error, Mapping) and isinstance(error.get("message", error.get("code")), str):
        return error
    return None


def api_error(response: Response) -> ApiError:
    """Return the error for an answer that is not a success, readable or not."""
    try:
        parsed = response.json()
    except Unreadable as fault:
        parsed, words = None, f"the answer is {fault}"
    else:
        words = response.summary()
    error = error_object(parsed) or {}
    status = response.status
    cls = _CLASSES.get(status, ServerError if status >= _FIRST_SERVER_ERROR else ApiError)
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
    """Return whether an answer to a paid request proves that it was not sold, by its status and its error object."""
    error = error_object(parsed)
    if status < 400 or status in _GIVEN_UP or error is None:
        return False
    return status < _FIRST_SERVER_ERROR or _is_server_code(error.get("code"))


def _is_server_code(code: object) -> bool:
    return isinstance(code, str) and code in _SERVER_CODES


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the id that the service's support asks for."""
    return one_line(headers.get("x-request-id"))


def _hints(error: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optional hints; one of an unexpected type is left out, not an error of its own."""
    suggestions = _mappings(error.get("suggestions"))
    return {
        **{name: one_line(error.get(name)) for name in ("code", "type", "param", "hint", "did_you_mean")},
        **{name: _number(error.get(name)) for name in ("balance_usd", "estimated_cost_usd")},
        "retryable": error["retryable"] if isinstance(error.get("retryable"), bool) else None,
        "suggestions": tuple(s["id"] for s in suggestions if isinstance(s.get("id"), str)),
        "alternatives": _mappings(error.get("alternatives")),
        "upstream": _lines(error.get("upstream")),
    }


def _retry_after(response: Response, error: Mapping[str, Any]) -> float | None:
    """The header decides; the body speaks when the header is missing or makes no sense."""
    for value in (response.headers.get("retry-after"), error.get("retry_after")):
        seconds = retry_after_s(value, received_at=response.received_at)
        if seconds is not None:
            return seconds
    return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mappings(value: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list):
        return ()
    return tuple(_lines(entry) for entry in value[:_MAX_HINTS] if isinstance(entry, Mapping))


def _lines(value: Any) -> Any:
    """Return the beginning of a hint as it came, but for its text: that ends up in terminals and logs."""
    if isinstance(value, Mapping):
        entries = islice(value.items(), _MAX_ENTRIES_OF_A_HINT)
        return {name: _line(item) or "" if isinstance(item, str) else item for name, item in entries}
    return _line(value) if isinstance(value, str) else value


def _line(text: str) -> str | None:
    return one_line(text, _LONGEST_HINT)
