"""An HTTP response as plain data: its JSON, or one printable line that describes what came instead.

The sender is not trusted. Text made of a body is masked, so that it never quotes the key, and exceptions raised here
have no frames or causes that hold the bytes.
"""

import html
import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import attrs

from lemon_async._formats.json_documents import Unreadable, read_json
from lemon_async._formats.safe_text import Mask, masked_text, one_line
from lemon_async.types import Inline

__all__ = ["MAX_BODY_BYTES", "MAX_CALL_BYTES", "Response", "Unreadable", "retry_after_s"]

MAX_BODY_BYTES = 512 * 1024 * 1024
"""Bound of any response: ten 4k pictures as base64 are 330 MB."""
MAX_CALL_BYTES = 32 * 1024 * 1024
"""Bound of a response to a free request, which usually holds links. The text that is left after pictures are taken out
has a bound of its own, `MAX_TEXT_BYTES`."""

# An element that is not closed goes on to the end, as in a browser, so that no text is searched twice.
_TAGS = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<[^>]*>?", re.DOTALL | re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)(</title|\Z)", re.DOTALL | re.IGNORECASE)
_LONGEST_SUMMARY = 160


@attrs.frozen
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

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)
    received_at: float = 0.0
    mask: Mask = attrs.field(default=str, repr=False, eq=False)
    pictures: Mapping[str, Inline] = attrs.field(factory=dict[str, Inline], repr=False, eq=False)
    fault: str | None = attrs.field(default=None, repr=False)

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
        try:
            return _summary(self._content, self.mask)
        except Unreadable as fault:
            return str(fault)

    @cached_property
    def _reading(self) -> tuple[Any, str | None]:
        """The parsed body, or why it cannot be read."""
        try:
            return read_json(self._content, self.mask), None
        except Unreadable as fault:
            return None, str(fault)
        except ValueError:
            return None, _summary(self._content, self.mask)

    @property
    def _content(self) -> bytes:
        if self.fault is not None:
            raise Unreadable(self.fault)
        return self.body


def _summary(content: bytes, mask: Mask) -> str:
    text = masked_text(content, mask)
    if not text.strip() and not content.strip():
        return "an empty body"
    title = _TITLE.search(text)
    is_html = title is not None or re.match(r"\s*<(!doctype|html|head|body|!--)", text, re.IGNORECASE)
    bare = mask(html.unescape(_TAGS.sub(" ", title[1] if title else text)))  # again: "&#115;k-" has become "sk-"
    words = one_line(re.sub(r"[<>]", " ", bare)) or ""  # "&lt;script&gt;" has become a tag
    if len(words) > _LONGEST_SUMMARY:
        words = words[:_LONGEST_SUMMARY] + "…"
    kind = "an HTML page" if is_html else "the text"
    return f"{kind} {words!r}" if words else kind


def retry_after_s(value: object, *, received_at: float) -> float | None:
    """Return the seconds in a `Retry-After` value, or `None` if it makes no sense.

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
