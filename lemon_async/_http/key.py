"""The API key and the extra headers of a session, and how they stay home.

Tracebacks print local variables, debuggers print objects, aiohttp keeps headers in both. So the key lives in
one object that does not show it, and reaches aiohttp as text whose `repr` is a mask. Every value of an extra header is
treated alike: it may be the key of a gateway.
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
_SHORTEST_SECRET = 8  # shorter ones are placeholders of tests, and words of any text


class _Masked(str):
    """Text that goes over the wire as it is, and into a `repr` as a mask."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_MASK)


class Secrets:
    """Texts to be masked wherever an answer quotes them; nothing shows or pickles them."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {_Masked(secret) for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        self._secrets: tuple[_Masked, ...] = tuple(sorted(found, key=len, reverse=True))

    def mask(self, text: str) -> str:
        """Return what a server sent, with every secret masked that is quoted there."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    def without(self, headers: dict[str, str]) -> dict[str, str]:
        """Return headers, their names in lower case, with the secrets masked in names and values that quote them."""
        for secret in self._secrets:
            lower = secret.lower()
            if lower in " ".join(chain(headers, headers.values())).lower():
                headers = {name.replace(lower, _MASK): self.mask(value) for name, value in headers.items()}
        return headers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_MASK!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; build the session where it is used")


class ApiKey(Secrets):
    """A key, and extra headers, that no repr, traceback or pickle shows."""

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
        """Return the key of `LEMONDATA_API_KEY`; an empty one when it is not set."""
        return cls(environ.get(KEY_VARIABLE, ""), headers)

    def headers(self) -> dict[str, str]:
        """Return the extra headers, and the one that authorises a request to the API."""
        return {**self._extra, "Authorization": self._header}

    def quoted_in(self, status: int) -> Secrets:
        """Return what an answer must not quote: in a success the key, in anything else the extra headers, too.

        A value may be the name of a team or a host and part of the links of pictures: masked, they would be lost.
        """
        return self if 200 <= status < 300 else self._all

    def problems(self) -> list[Problem]:
        """Return what is wrong with the key and the extra headers, without quoting them."""
        fault = _find_fault(self._header)
        problems = [Problem("api_key", fault)] if fault else []
        return problems + [Problem("headers", fault) for fault in self._faults]


def _parts(value: str) -> tuple[str, ...]:
    """Return the value of a header, and the credentials in it if it is a scheme and credentials."""
    words = value.split()
    return (value, words[1]) if len(words) == 2 else (value,)


def _find_fault(header: _Masked) -> str | None:
    if not header:
        return "must be text"
    if header == _SCHEME:
        return f"is missing: pass api_key=, or set the environment variable {KEY_VARIABLE}"
    if not header.isascii() or not header.isprintable() or header.count(" ") > 1:
        return "holds a character that no key has (white space, line break, control or non-ASCII character)"
    if '"' in header or "\\" in header:  # in JSON these are escaped: an answer that quotes the key could not be masked
        return "holds a quotation mark or a backslash, which no key has"
    return None
