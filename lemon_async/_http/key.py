"""Hold the API key and the extra headers of a session, and keep them out of everything that can be printed.

Tracebacks print local variables, debuggers print objects, and aiohttp keeps headers in both. So the key lives in one
object that does not show it, and reaches aiohttp as text whose `repr` is a mask. Values of extra headers are treated
like the key: one may be the key of a gateway.
"""

import hashlib
import os
from collections.abc import Mapping
from itertools import chain

from lemon_async._api.extra_headers import find_header_faults
from lemon_async._http.attempt import HiddenText, Secrets
from lemon_async.types import Problem

__all__ = ["KEY_VARIABLE", "ApiKey"]

KEY_VARIABLE = "LEMONDATA_API_KEY"
_SCHEME = "Bearer "


class ApiKey:
    """The key and the extra headers, hidden from every repr, traceback and pickle.

    Attributes:
        in_success: What to mask in a success: the key.
        in_refusal: What to mask in other responses: the values of the extra headers, too. Such a value may be the name
            of a team or a host, and part of the links in a success: masking would break them.
    """

    __slots__ = ("_extra", "_faults", "_header", "in_refusal", "in_success")

    def __init__(self, value: object, headers: object = None) -> None:
        self._header = HiddenText(f"{_SCHEME}{value}" if isinstance(value, str) else "")
        secret = HiddenText(self._header.removeprefix(_SCHEME))
        self._faults = find_header_faults({} if headers is None else headers)
        self._extra: dict[str, HiddenText] = {}
        if isinstance(headers, Mapping) and not self._faults:
            self._extra = {name: HiddenText(value) for name, value in headers.items()}
        self.in_success: Secrets = Secrets([secret])
        self.in_refusal: Secrets = Secrets([secret, *chain.from_iterable(map(_parts, self._extra.values()))])

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, headers: object = None) -> "ApiKey":
        """Return the key in `LEMONDATA_API_KEY`; an empty one if it is not set."""
        return cls(environ.get(KEY_VARIABLE, ""), headers)

    def headers(self) -> dict[str, str]:
        """Return the headers of every request to the API: the extra ones and `Authorization`."""
        return {**self._extra, "Authorization": self._header}

    def account(self, origin: str) -> str:
        """Return what identifies the account at an origin, and does not reveal the key: 16 hexadecimal digits."""
        return hashlib.sha256(f"{origin}\n{self._header}".encode()).hexdigest()[:16]

    def problems(self) -> list[Problem]:
        """Return the problems of the key and the extra headers, without quoting them."""
        fault = _find_fault(self._header)
        problems = [Problem("api_key", fault)] if fault else []
        return problems + [Problem("headers", fault) for fault in self._faults]

    def __repr__(self) -> str:
        return f"ApiKey({HiddenText()!r})"


def _parts(value: str) -> tuple[str, ...]:
    """Return the value of a header and, if it is `<scheme> <credentials>`, the credentials."""
    words = value.split()
    return (value, words[1]) if len(words) == 2 else (value,)


def _find_fault(header: HiddenText) -> str | None:
    if not header:
        return "must be a string"
    if header == _SCHEME:
        return f"is missing: pass api_key=, or set the environment variable {KEY_VARIABLE}"
    if not header.isascii() or not header.isprintable() or header.count(" ") > 1:
        return "contains a character that no key has (white space, line break, control or non-ASCII character)"
    if '"' in header or "\\" in header:  # JSON escapes these: a response that quotes the key could not be masked
        return "contains a quotation mark or a backslash, which no key has"
    return None
