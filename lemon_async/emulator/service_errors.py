"""Error replies of the service: one JSON shape for every refusal."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

from attrs import asdict, field, frozen

_INVALID = "invalid_request_error"
# status: (type, code, message). A 4xx without a documented type is an invalid request.
_DEFAULTS: Mapping[int, tuple[str, str, str]] = MappingProxyType(
    {
        400: (_INVALID, _INVALID, "The request is not valid."),
        401: ("invalid_api_key", "invalid_api_key", "Invalid API key provided."),
        402: ("insufficient_balance", "insufficient_balance", "Insufficient balance."),
        403: ("access_denied", "access_denied", "You have no access to this resource."),
        404: (_INVALID, "not_found", "Not found."),
        405: (_INVALID, "method_not_allowed", "This method is not allowed here."),
        408: (_INVALID, "request_timeout", "The request took too long to arrive."),
        409: (_INVALID, "conflict", "The resource is in a conflicting state."),
        410: (_INVALID, "link_expired", "This link has expired."),
        413: (_INVALID, "payload_too_large", "The request body is too large."),
        421: (_INVALID, "misdirected_request", "This host is not served here."),
        429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit exceeded."),
        500: ("server_error", "server_error", "The server had an error."),
        502: ("upstream_error", "upstream_error", "The upstream provider failed."),
        503: ("all_channels_failed", "all_channels_failed", "All channels failed."),
        504: ("timeout_error", "timeout_error", "The upstream provider timed out."),
    },
)
ERROR_TYPES: tuple[str, ...] = (*dict.fromkeys(type_ for type_, *_ in _DEFAULTS.values()), "quota_exceeded")

_SERVER_ERRORS = 500
_QUOTA_CODES = ("quota_exceeded", "insufficient_quota")
_SERVER_TYPES: tuple[str, ...] = tuple(type_ for status, (type_, *_) in _DEFAULTS.items() if status >= _SERVER_ERRORS)

# An error reply must not cost more than the request that causes it.
MAX_FIELD_ERRORS = 20
MAX_QUOTED_CHARS = 80

_ELLIPSIS = "…"


def excerpt(text: str, most: int = MAX_QUOTED_CHARS) -> str:
    """Return the beginning of a client's text for use in a message, without characters that JSON cannot hold."""
    short = text if len(text) <= most else text[: most - len(_ELLIPSIS)] + _ELLIPSIS
    return short.encode("utf-8", "replace").decode()


@frozen
class FieldError:
    """One error in one field; a row of `validation_errors`."""

    field: str
    message: str
    code: str = "invalid_value"


@frozen(eq=False)
class ServiceError(Exception):
    """An error reply; the HTTP layer turns it into JSON wherever it is raised."""

    status: int
    code: str | None = None
    message: str | None = None
    param: str | None = None
    extras: Mapping[str, Any] = field(factory=dict, kw_only=True)
    field_errors: Sequence[FieldError] = field(default=(), kw_only=True)
    headers: Mapping[str, str] = field(factory=dict, kw_only=True)

    @classmethod
    def invalid(cls, *errors: FieldError) -> Self:
        """Return a 400 for invalid fields; message and `param` are those of the first one."""
        first = errors[0]
        return cls(400, message=f"{first.field}: {first.message}", param=first.field, field_errors=errors)

    def as_json(self) -> dict[str, Any]:
        """Return the body: `{"error": {...}}`, with `validation_errors` beside it if fields are invalid."""
        extras = {"param": self.param, **self.extras}
        body = error_json(self.status, code=self.code, message=self.message, extras=extras)
        if self.field_errors:
            body["validation_errors"] = [asdict(error) for error in self._listed_errors()]
        return body

    def _listed_errors(self) -> Sequence[FieldError]:
        """Return the first errors, and the number of those left out."""
        omitted = len(self.field_errors) - MAX_FIELD_ERRORS
        if omitted <= 0:
            return self.field_errors
        rest = FieldError("validation_errors", f"{omitted} more are not listed", "more_errors")
        return [*self.field_errors[:MAX_FIELD_ERRORS], rest]


def error_json(
    status: int,
    *,
    code: str | None = None,
    message: str | None = None,
    extras: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return an error body for `status`; type, code and message default to those usual for the status."""
    fallback = _DEFAULTS[500 if status >= _SERVER_ERRORS else 400]
    usual_type, usual_code, usual_message = _DEFAULTS.get(status, fallback)
    return {
        "error": {
            "message": message or usual_message,
            "type": _type_of(status, code) or usual_type,
            "code": code or usual_code,
            "param": None,
            **(extras or {}),
        },
    }


def _type_of(status: int, code: str | None) -> str | None:
    """Return the type of a code that has another one than its status."""
    if status == 402 and code in _QUOTA_CODES:
        return "quota_exceeded"
    return code if status >= _SERVER_ERRORS and code in _SERVER_TYPES else None
