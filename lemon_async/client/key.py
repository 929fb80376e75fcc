"""The API key, and how it stays home.

Tracebacks print local variables, debuggers print objects, aiohttp keeps headers in both. So the key lives in
one object that does not show it, and reaches aiohttp as text whose `repr` is a mask.
"""

import os
from collections.abc import Mapping
from itertools import chain
from typing import NoReturn

from lemon_async.api.errors import Problem

__all__ = ["KEY_VARIABLE", "ApiKey"]

KEY_VARIABLE = "LEMONDATA_API_KEY"
_MASK = "***"
_SCHEME = "Bearer "
_SHORTEST_SECRET = 8  # shorter ones are placeholders of tests, and words of any text


class _Masked(str):
    """Text that goes over the wire as it is, and into a `repr` as a mask."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_MASK)


class ApiKey:
    """A key that no repr, traceback or pickle shows."""

    __slots__ = ("_header", "_secret")

    def __init__(self, value: object) -> None:
        self._header = _Masked(f"{_SCHEME}{value}" if isinstance(value, str) else "")
        self._secret = _Masked(self._header.removeprefix(_SCHEME))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "ApiKey":
        """Return the key of `LEMONDATA_API_KEY`; an empty one when it is not set."""
        return cls(environ.get(KEY_VARIABLE, ""))

    def headers(self) -> dict[str, str]:
        """Return the header that authorises a request to the API."""
        return {"Authorization": self._header}

    def mask(self, text: str) -> str:
        """Return what a server sent, with the key masked if it is quoted there."""
        return text if len(self._secret) < _SHORTEST_SECRET else text.replace(self._secret, _MASK)

    def without(self, headers: dict[str, str]) -> dict[str, str]:
        """Return headers, their names in lower case, with the key masked in names and values that quote it."""
        secret = self._secret.lower()
        if len(secret) < _SHORTEST_SECRET or secret not in " ".join(chain(headers, headers.values())).lower():
            return headers
        return {name.replace(secret, _MASK): self.mask(value) for name, value in headers.items()}

    def problems(self) -> list[Problem]:
        """Return what is wrong with the key, without quoting it."""
        fault = _find_fault(self._header)
        return [Problem("api_key", fault)] if fault else []

    def __repr__(self) -> str:
        return f"ApiKey({_MASK!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; build the session where it is used")


def _find_fault(header: _Masked) -> str | None:
    if not header:
        return "must be text"
    if header == _SCHEME:
        return f"is missing: pass api_key=, or set the environment variable {KEY_VARIABLE}"
    if not header.isascii() or not header.isprintable() or header.count(" ") > 1:
        return "holds a character that no key has (white space, line break, control or non-ASCII character)"
    return None
