"""An HTTP response as plain data, and its JSON and headers as typed values.

The sender is not trusted. Text made of a body is masked, so that it never quotes the key, and exceptions raised here
have no frames or causes that hold the bytes. Reading loads no module: without a free file descriptor that would fail,
and the outcome of a paid request with it. Reading is lenient, because a paid result must not be lost to an odd
optional field: a value of an unexpected type counts as missing. The fields and their types are those of "Create image"
and "Get image status"; no page documents the `X-RateLimit-*` headers, but some versions of the service send them.
"""

import html
import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from lemon_async._formats.base64_json import decode_base64, decode_data_url
from lemon_async._formats.json_documents import Mask, Unreadable, masked_text, one_line, read_json
from lemon_async._formats.pictures import sniff
from lemon_async.types import ImageData, Inline, TaskFault

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_CALL_BYTES",
    "RateReport",
    "Response",
    "Unreadable",
    "fault_of",
    "id_of",
    "number_of",
    "read_image",
    "read_rate_headers",
    "retry_after_s",
    "snapshot_fields",
    "text_of",
    "whole_of",
]

MAX_BODY_BYTES = 512 * 1024 * 1024
"""Bound of any response: ten 4k pictures as base64 are 330 MB."""
MAX_CALL_BYTES = 32 * 1024 * 1024
"""Bound of a response to a free request, which usually holds links. The text that is left after pictures are taken out
has a bound of its own, `MAX_TEXT_BYTES`."""

_LONGEST_SUMMARY = 160
# Compiled when first used. An unclosed element extends to the end, as in a browser, so that no text is searched twice.
_TAGS = r"(?si)<(script|style)\b.*?(?:</\1\s*>|\Z)|<[^>]*>?"
_TITLE = r"(?si)<title[^>]*>(.*?)(</title|\Z)"
_NO_PICTURES: Mapping[str, Inline] = MappingProxyType({})


class Response:
    """A response whose body has been read.

    Attributes:
        headers: Names in lower case; the key is masked.
        body: The bytes without their content coding, unmasked; `BodyReader` has taken long base64 out of JSON.
        received_at: Unix seconds, the reference for `Retry-After` dates.
        mask: Masks the key in any text made of the body.
        pictures: The pictures taken out of the body, by the text that replaces each.
        fault: Why the body could not be read, if it could not.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        received_at: float = 0.0,
        mask: Mask = str,
        pictures: Mapping[str, Inline] = _NO_PICTURES,
        fault: str | None = None,
    ) -> None:
        self.status: int = status
        self.headers: Mapping[str, str] = headers
        self.body: bytes = body
        self.received_at: float = received_at
        self.mask: Mask = mask
        self.pictures: Mapping[str, Inline] = pictures
        self.fault: str | None = fault

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def is_whole_json(self) -> bool:
        """Whether the body is a JSON object or list, which is complete by itself: a cut one cannot be parsed."""
        parsed, fault = self._reading
        return fault is None and isinstance(parsed, dict | list)

    def json(self) -> Any:
        """Return the parsed and masked body, which is parsed once.

        Raises:
            Unreadable: It is not JSON.
        """
        parsed, fault = self._reading
        if fault is not None:
            raise Unreadable(fault)
        return parsed

    def summary(self) -> str:
        """Return one printable line that describes the body, without markup."""
        return _summary(self.body, self.mask) if self.fault is None else self.fault

    @cached_property
    def _reading(self) -> tuple[Any, str | None]:
        """The parsed body, or why it cannot be read."""
        if self.fault is not None:
            return None, self.fault
        try:
            return read_json(self.body, self.mask), None
        except Unreadable as fault:
            return None, str(fault)
        except ValueError:
            return None, _summary(self.body, self.mask)

    def __repr__(self) -> str:
        return f"Response(status={self.status}, headers={self.headers!r}, received_at={self.received_at})"


def _summary(content: bytes, mask: Mask) -> str:
    text = masked_text(content, mask)
    if not text.strip() and not content.strip():
        return "an empty body"
    title = re.search(_TITLE, text)
    is_html = title is not None or re.match(r"\s*<(!doctype|html|head|body|!--)", text, re.IGNORECASE)
    bare = mask(html.unescape(re.sub(_TAGS, " ", title[1] if title else text)))  # again: "&#115;k-" has become "sk-"
    words = one_line(re.sub(r"[<>]", " ", bare)) or ""  # "&lt;script&gt;" has become a tag
    if len(words) > _LONGEST_SUMMARY:
        words = words[:_LONGEST_SUMMARY] + "…"
    kind = "an HTML page" if is_html else "the text"
    return f"{kind} {words!r}" if words else kind


def retry_after_s(value: object, *, received_at: float) -> float | None:
    """Return the seconds in a `Retry-After` value, or `None` if it is implausible.

    Accepts a number of seconds or an HTTP date. The result is finite and not negative; callers bound it.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        seconds = float(max(min(value, 10**9), 0))
    elif isinstance(value, str):
        seconds = _seconds_of(value.strip(), received_at)
    else:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _seconds_of(text: str, received_at: float) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text)
        # Without a zone it is UTC (RFC 9110, 5.6.7), and not local time, as Python assumes.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - received_at
    except (ValueError, OverflowError):
        return math.nan


_NAMES = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
_MOST = 1_000_000
_LONGEST_RESET_S = 86_400.0
_EARLIEST_UNIX_S = 1e8
_COUNT = re.compile(r"[0-9]{1,7}(\.0*)?", re.ASCII)


class RateReport(NamedTuple):
    """The state of the account's rate limit in one response; `None` for a missing value.

    Attributes:
        limit: Requests per minute, at least 1.
        remaining: Requests left until the reset, for all clients of the account.
        reset_s: Seconds from the response to the reset.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None


def read_rate_headers(headers: Mapping[str, str], *, received_at: float) -> RateReport | None:
    """Return the rate limit in the headers, or `None` if there is none.

    Args:
        headers: Names in lower case.
        received_at: Unix seconds, the reference for a reset that is a time.
    """
    if headers.keys().isdisjoint(_NAMES):
        return None
    reported = RateReport(
        limit=_count(headers.get("x-ratelimit-limit")) or None,
        remaining=_count(headers.get("x-ratelimit-remaining")),
        reset_s=_reset_s(headers.get("x-ratelimit-reset"), received_at),
    )
    return None if reported == RateReport() else reported


def _count(text: str | None) -> int | None:
    found = None if text is None else _COUNT.fullmatch(text.strip())
    if found is None:
        return None
    number = int(float(found[0]))
    return number if number <= _MOST else None


def _reset_s(text: str | None, received_at: float) -> float | None:
    """Return the seconds to a reset given in seconds, Unix seconds or as an HTTP date; `None` if it is past."""
    seconds = retry_after_s(text, received_at=received_at)
    if seconds is not None and seconds >= _EARLIEST_UNIX_S:
        seconds -= received_at
    return seconds if seconds is not None and 0.0 < seconds <= _LONGEST_RESET_S else None


_MAX_IMAGES = 100  # ten can be requested
_LONGEST_STATUS = 64
_LONGEST_SCHEME = 16
_NOTHING: Mapping[str, Inline] = {}


def text_of(value: object) -> str | None:
    """Return text that is not empty."""
    return value if isinstance(value, str) and value else None


def id_of(value: object) -> str | None:
    """Return text that can be an id: not empty, on one line."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def whole_of(value: object) -> int | None:
    """Return a number, or text that is one, without its fraction."""
    number = number_of(value)
    return None if number is None else int(number)


def number_of(value: object) -> float | None:
    """Return a number, or text that is one, also with a per cent sign."""
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**12:
        return None
    return float(value)


def _images(value: object, pictures: Mapping[str, Inline]) -> tuple[ImageData, ...]:
    if not isinstance(value, list):
        return ()
    images = [read_image(entry, pictures) for entry in value[:_MAX_IMAGES] if isinstance(entry, dict)]
    return tuple([image for image in images if image.is_usable])


def read_image(entry: Mapping[str, Any], pictures: Mapping[str, Inline] = _NOTHING) -> ImageData:
    """Read an entry of `data`, usable or not; `pictures` holds those that were taken out of the JSON.

    Some gateways put base64 into `url`, bare or as a `data:` URL, or put a `data:` URL into `b64_json`. An entry with a
    link and base64 keeps both.
    """
    link, text = text_of(entry.get("url")), text_of(entry.get("b64_json"))
    inline = None if text is None else pictures.get(text) or decode_data_url(text) or decode_base64(text)
    if link is not None and (held := pictures.get(link) or decode_data_url(link) or _bare_picture(link)):
        link, inline = None, inline or held
    if inline is not None and inline.content == b"":
        inline = None
    return ImageData(link, inline, text_of(entry.get("revised_prompt")))


def _bare_picture(link: str) -> Inline | None:
    """Return the picture in a "link" that is really base64."""
    if ":" in link[:_LONGEST_SCHEME]:
        return None
    inline = decode_base64(link)
    return inline if inline.content is not None and sniff(inline.content) is not None else None


def snapshot_fields(body: Mapping[str, Any], pictures: Mapping[str, Inline] = _NOTHING) -> dict[str, Any]:
    """Return the fields of a `TaskSnapshot` except `billing`.

    Written by hand, because every response about a job passes here, and generated code takes twice as long.
    """
    return {
        "status": (one_line(body.get("status")) or "")[:_LONGEST_STATUS],
        "task_id": id_of(body.get("task_id")),
        "poll_url": text_of(body.get("poll_url")),
        "images": _images(body.get("data"), pictures),
        "created": whole_of(body.get("created")),
        "model": text_of(body.get("model")),
        "progress": number_of(body.get("progress")),
        "fault": fault_of(body.get("error")),
        "is_cancelled": body.get("cancelled") is True,
    }


def fault_of(value: object) -> TaskFault | None:
    """Read a failed task's `error`, which is a string on one page and an object on another."""
    if value is None:
        return None
    if isinstance(value, dict):
        code = one_line(value.get("code"))
        message = one_line(value.get("message")) or code
    else:
        code, message = None, one_line(value)
    return TaskFault(message, code) if message else None
