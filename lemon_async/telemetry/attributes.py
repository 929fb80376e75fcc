"""What spans and metrics say: names of the GenAI and HTTP semantic conventions, and values that give nothing away.

Messages of errors are in none of it, because the service may quote the prompt in them; nor are paths of files, queries
of links, and bodies.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

import orjson

from lemon_async.requests import Request
from lemon_async.types import Billing

__all__ = [
    "ERROR_TYPE",
    "IMAGES",
    "JOB",
    "KIND",
    "METHOD",
    "MODEL",
    "MONEY",
    "OPERATION",
    "RESEND_COUNT",
    "RESPONSE_ID",
    "RESPONSE_MODEL",
    "ROW_STATE",
    "STATUS_CODE",
    "TASK_STATUS",
    "TEMPLATE",
    "link_attributes",
    "model_of",
    "prompt_attributes",
    "request_attributes",
    "response_attributes",
    "status_code_of",
    "template_of",
    "text",
]

ERROR_TYPE: Final = "error.type"
MODEL: Final = "gen_ai.request.model"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
METHOD: Final = "http.request.method"
RESEND_COUNT: Final = "http.request.resend_count"
STATUS_CODE: Final = "http.response.status_code"
TEMPLATE: Final = "url.template"
IMAGES: Final = "lemon_async.images"
KIND: Final = "lemon_async.request.kind"
MONEY: Final = "lemon_async.money"
ROW_STATE: Final = "lemon_async.row.state"
TASK_STATUS: Final = "lemon_async.task.status"

OPERATION: Mapping[str, str] = {"gen_ai.operation.name": "generate_content", "gen_ai.provider.name": "lemondata"}
JOB: Mapping[str, str] = {**OPERATION, "gen_ai.output.type": "image"}

_LONGEST = 256
_LARGEST = 2**63 - 1
_PORTS = {"http": 80, "https": 443}
_MEMBER = re.compile(r"^(/v1/[a-z]+)/[^/]+")
_USAGE = {
    "gen_ai.usage.input_tokens": ("input_tokens", "prompt_tokens"),
    "gen_ai.usage.output_tokens": ("output_tokens", "completion_tokens"),
}


def text(value: str) -> str:
    """Return a string that every exporter can encode, cut at 256 characters."""
    if value.isascii() and len(value) <= _LONGEST:  # nearly always
        return value
    return value[:_LONGEST].encode(errors="replace").decode()


def model_of(request: Request) -> str | None:
    """Return the model that a request is for; `None` if it names something that is no text."""
    model: object = request.default_model if request.model is None else request.model
    return text(model) if isinstance(model, str) else None


def request_attributes(request: Request) -> dict[str, str | int]:
    """Return the attributes of a job's span that are known before it is sent."""
    attributes: dict[str, str | int] = {**JOB}
    model = model_of(request)
    if model is not None:
        attributes[MODEL] = model
    if request.n is not None and request.n != 1 and _is_count(request.n):
        attributes["gen_ai.request.choice.count"] = request.n
    return attributes


def prompt_attributes(request: Request) -> dict[str, str]:
    """Return the prompt as the only message of the input, if the request has one."""
    prompt = getattr(request, "prompt", None)
    if not isinstance(prompt, str):
        return {}
    content = prompt.encode(errors="replace").decode()
    messages = [{"role": "user", "parts": [{"type": "text", "content": content}]}]
    return {"gen_ai.input.messages": orjson.dumps(messages).decode()}


def response_attributes(billing: Billing) -> dict[str, int]:
    """Return the token counts of a response, as far as they are counts."""
    usage = billing.usage or {}
    found = {key: next((usage[name] for name in names if name in usage), None) for key, names in _USAGE.items()}
    return {key: value for key, value in found.items() if _is_count(value)}


def link_attributes(url: str) -> dict[str, str | int]:
    """Return the attributes of a download, without credentials and query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return {}
    if not host or not port:
        return {}
    netloc = parts.netloc.rpartition("@")[2]
    full = text(parts._replace(netloc=netloc, query="", fragment="").geturl())
    return {"url.full": full, "server.address": text(host), "server.port": port}


def template_of(path: str) -> str:
    """Return the path of a request with a placeholder for the id in it."""
    return text(_MEMBER.sub(r"\1/{id}", path))


def status_code_of(error: object) -> int | None:
    """Return the HTTP status that an error carries, if there was a response."""
    status = getattr(error, "status", None)
    return status if _is_count(status) else None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
