"""What is wrong with a journal in PostgreSQL, and what to do about it."""

import re
from typing import Any

import psycopg

from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.postgres.address import Address
from lemon_async.errors import JournalError

__all__ = ["describe", "is_lost", "is_starting", "unreachable"]

_AGAIN = "then run the batch again to continue"
# By the beginning of the SQLSTATE; the first one that fits.
_ADVICE = {
    "25006": "the server is read-only (a standby, or default_transaction_read_only); use the address of the primary",
    "42501": "the user lacks rights; let its owner grant them, or use another schema (?schema=NAME)",
    "53100": f"the disk of the server is full; free some space, {_AGAIN}",
    "53": f"the server is out of resources; {_AGAIN}",
    "55P03": f"another session has locked it for too long; end that session, {_AGAIN}",
    "57014": f"a statement took too long and was cancelled; look at the load of the server, {_AGAIN}",
    "58": f"the disk of the server failed; check it, {_AGAIN}",
    "XX": "it is damaged; restore the database only if nothing was bought since: an older copy would buy again",
    "42": "its tables were changed by another program",
}
# libpq has no code for these, and its `ping` holds up all threads of the process for as long as it takes.
_STARTING = re.compile("the database system is (?:starting up|shutting down|not (?:yet )?accepting|in recovery)")
_TLS = re.compile("certificate|support SSL")
# The session was ended; whatever was not committed is undone.
_ENDED = ("08", "57P01", "57P02", "57P03", "57P05", "25P03")


def is_lost(connection: "psycopg.Connection[Any]", failure: psycopg.Error) -> bool:
    """Return whether the connection has ended, so that a new one may help."""
    return connection.closed or connection.broken or (failure.sqlstate or "").startswith(_ENDED)


def describe(address: Address, failure: psycopg.Error) -> JournalError:
    """Return the error of a journal for one of a statement."""
    words = failure.diag.message_primary or str(failure)
    state = failure.sqlstate or ""
    advice = next((advice for prefix, advice in _ADVICE.items() if state.startswith(prefix)), None)
    code = f" ({state})" if state else ""
    return refusal(address.name, f"{advice}: {words}{code}" if advice else f"{words}{code}")


def is_starting(failure: psycopg.Error) -> bool:
    """Return whether a server refuses a connection because it is starting, or shutting down."""
    return _STARTING.search(str(failure)) is not None


def unreachable(address: Address, failure: psycopg.Error) -> JournalError:
    """Return the error of a journal for a connection that cannot be made."""
    if isinstance(failure, psycopg.ProgrammingError) and failure.sqlstate is None:
        advice = "correct the parameters after the question mark of its URL"
    elif is_starting(failure):
        advice = f"the server is starting or shutting down; wait until it has started, {_AGAIN}"
    elif "FATAL" in str(failure):
        advice = "the server refuses the connection; check user, password and database"
    elif _TLS.search(str(failure)):
        advice = "TLS is not possible as the URL demands it; correct sslmode and sslrootcert, or the server"
    else:
        advice = "the server does not respond; start it, or check host and port"
    return refusal(address.name, f"{advice}: {_without_secrets(address, failure)}")


def _without_secrets(address: Address, failure: Exception) -> str:
    """Return the message of libpq in one line."""
    words = " ".join(str(failure).split())
    for name in ("password", "sslpassword"):
        if secret := address.parameters.get(name):
            words = words.replace(secret, "…")
    return words
