"""The address of a journal in PostgreSQL: a URL, and a name that shows no credentials. Pure."""

import re
from collections.abc import Mapping
from os import PathLike, fspath
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import attrs

from lemon_async.batch.store.faults import refusal

__all__ = ["Address", "hidden"]

_SCHEMES = ("postgresql://", "postgres://")
_URL = re.compile(r"\s*[A-Za-z][\w+.-]+://")
_SCHEMA = "lemon_async"
_SHOWN = ("host", "port", "dbname")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_FORM = "it must look like postgresql://user:password@host:5432/database"
_ESCAPED = "special characters of a password are written as %XX"


class _Hidden(str):
    """Text that is used as it is, and has a mask for a `repr`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


def hidden(path: str | PathLike[str]) -> str | PathLike[str]:
    """Hide a URL, which may have a password, from tracebacks that show local variables."""
    return _Hidden(path) if isinstance(path, str) and path.lower().startswith(_SCHEMES) else path


@attrs.frozen
class Address:
    """Where a journal is.

    Attributes:
        name: The URL without user, password and options.
        schema: The schema that holds the tables.
        parameters: What libpq needs to connect; has the password.
    """

    name: str
    schema: str
    parameters: Mapping[str, str] = attrs.field(repr=False)

    @classmethod
    def of(cls, path: str | PathLike[str]) -> "Address | None":
        """Return the address that a URL names; `None` if it is a path of a file.

        Raises:
            JournalError: It is a URL that cannot be used; its text is not shown.
        """
        text = fspath(path)
        hidden = f"{text.partition('://')[0]}://…"
        if not text.lower().startswith(_SCHEMES):
            if _URL.match(text):  # the path of a file would be shown, with the password in it
                raise refusal(hidden, f"it must be a path, or begin with {_SCHEMES[0]}")
            return None
        parts = urlsplit(text)
        if "@" in parts.path + parts.query or "#" in text:  # a part of a password that was taken for something else
            raise refusal(hidden, f"the URL cannot be read; {_ESCAPED}, and {_FORM}")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = query.pop("schema", _SCHEMA)
        if not _NAME.fullmatch(schema) or schema.startswith("pg_"):
            raise refusal(hidden, f"{schema!r} is no name for a schema; use lower-case letters, digits and _")
        try:
            parameters = _parameters(parts) | {name: _Hidden(text) for name, text in query.items()}
        except ValueError:
            raise refusal(hidden, f"the URL cannot be read; {_ESCAPED}, and {_FORM}") from None
        return cls(_name(parameters, schema), schema, parameters)


def _parameters(parts: SplitResult) -> dict[str, str]:
    """Return the parameters that stand before the query."""
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    addresses = [_host_and_port(host) for host in hosts.split(",")]
    found = {
        "user": unquote(user),
        "password": _Hidden(unquote(password)),
        "host": ",".join(unquote(host) for host, _ in addresses),
        "port": ",".join(port for _, port in addresses),
        "dbname": unquote(parts.path.removeprefix("/")),
    }
    return {name: value for name, value in found.items() if value.strip(",")}


def _host_and_port(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(\d{1,5}))?", text)
    if match is None:
        raise ValueError(text)
    return match[1].strip("[]"), match[2] or ""


def _name(parameters: Mapping[str, str], schema: str) -> str:
    """Return the URL that names the journal and shows no credentials."""
    hosts, ports = parameters.get("host", ""), parameters.get("port", "")
    shown = {name: parameters[name] for name in _SHOWN if name in parameters}
    where = ""
    if "/" not in hosts:
        names = hosts.split(",")
        each = ports.split(",") if len(ports.split(",")) == len(names) else [ports] * len(names)
        pairs = [(f"[{host}]" if ":" in host else host, port) for host, port in zip(names, each, strict=True)]
        where = ",".join(f"{host}:{port}" if port else host for host, port in pairs)
        shown.pop("host", None)
        shown.pop("port", None)
    database = shown.pop("dbname", "")
    if schema != _SCHEMA:
        shown["schema"] = schema
    query = urlencode(shown, safe="/,")
    return f"postgresql://{where}/{database}{'?' * bool(query)}{query}"
