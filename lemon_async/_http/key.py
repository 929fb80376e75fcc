"""Hold the API key and the extra headers of a session, and keep them out of everything that can be printed.

Tracebacks print local variables, debuggers print objects, and aiohttp keeps headers in both. So the key lives in one
object that does not show it, and reaches aiohttp as text whose `repr` is a mask. Values of extra headers are treated
like the key: one may be the key of a gateway.
"""

import os
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NoReturn

from lemon_async._api.extra_headers import find_header_faults
from lemon_async.errors import Problem

__all__ = ["KEY_VARIABLE", "ApiKey", "Secrets"]

KEY_VARIABLE = "LEMONDATA_API_KEY"
_MASK = "***"
_SCHEME = "Bearer "
_SHORTEST_SECRET = 8  # shorter ones are placeholders in tests, or words that occur in any text


class _Masked(str):
    """Text with a mask for a `repr`; sent as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_MASK)


class Secrets:
    """Texts that are masked wherever a response quotes them; they cannot be printed or pickled."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {_Masked(secret) for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        self._secrets: tuple[_Masked, ...] = tuple(sorted(found, key=len, reverse=True))

    def mask(self, text: str) -> str:
        """Return text from a server with every secret in it masked."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    def mask_headers(self, headers: dict[str, str]) -> dict[str, str]:
        """Return headers, names in lower case, with the secrets in names and values masked."""
        for secret in self._secrets:
            lower = secret.lower()
            if lower in " ".join(chain(headers, headers.values())).lower():
                headers = {name.replace(lower, _MASK): self.mask(value) for name, value in headers.items()}
        return headers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_MASK!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key cannot be pickled; create the session in the process that uses it")


class ApiKey(Secrets):
    """The key and the extra headers, hidden from every repr, traceback and pickle."""

    __slots__ = ("_all", "_extra", "_faults", "_header")

    def __init__(self, value: object, headers: object = None) -> None:
        self._header = _Masked(f"{_SCHEME}{value}" if isinstance(value, str) else "")
        super().__init__([self._header.removeprefix(_SCHEME)])
        self._faults = find_header_faults({} if headers is None else headers)
        self._extra: dict[str, _Masked] = {}
        if isinstance(headers, Mapping) and not self._faults:
            self._extra = {name: _Masked(value) for name, value in headers.items()}
        self._all = Secrets(chain(self._secrets, *map(_parts, self._extra.values())))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, headers: object = None) -> "ApiKey":
        """Return the key in `LEMONDATA_API_KEY`; an empty one if it is not set."""
        return cls(environ.get(KEY_VARIABLE, ""), headers)

    def headers(self) -> dict[str, str]:
        """Return the headers of every request to the API: the extra ones and `Authorization`."""
        return {**self._extra, "Authorization": self._header}

    def secrets_for(self, status: int) -> Secrets:
        """Return what to mask in a response: the key and, unless it is a success, the values of the extra headers.

        Such a value may be the name of a team or a host, and part of the links in a success: masking would break them.
        """
        return self if 200 <= status < 300 else self._all

    def problems(self) -> list[Problem]:
        """Return the problems of the key and the extra headers, without quoting them."""
        fault = _find_fault(self._header)
        problems = [Problem("api_key", fault)] if fault else []
        return problems + [Problem("headers", fault) for fault in self._faults]


def _parts(value: str) -> tuple[str, ...]:
    """Return the value of a header and, if it is `<scheme> <credentials>`, the credentials."""
    words = value.split()
    return (value, words[1]) if len(words) == 2 else (value,)


def _find_fault(header: _Masked) -> str | None:
    if not header:
        return "must be a string"
    if header == _SCHEME:
        return f"is missing: pass api_key=, or set the environment variable {KEY_VARIABLE}"
    if not header.isascii() or not header.isprintable() or header.count(" ") > 1:
        return "contains a character that no key has (white space, line break, control or non-ASCII character)"
    if '"' in header or "\\" in header:  # JSON escapes these: a response that quotes the key could not be masked
        return "contains a quotation mark or a backslash, which no key has"
    return None
