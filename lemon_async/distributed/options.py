"""What a worker is started with. It is pickled and kept by Ray, so neither the key nor a header is in it."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from lemon_async.batch.store.postgres.address import Address
from lemon_async.errors import ContractError
from lemon_async.types import Problem

__all__ = ["WorkerOptions"]

_SECRET = {
    "api_key": "would be kept by Ray: set LEMONDATA_API_KEY in the environment of the workers",
    "headers": "would be kept by Ray, and one may be a key: workers cannot be given any",
}


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """What a worker is started with.

    Attributes:
        journal: The URL of the journal; it may have a password, so that it is not shown.
        session: Options of `LemonSession`; those that are `None` have its defaults.
        batch: Options of `LemonSession.batch`, fields included.
    """

    journal: str = attrs.field(repr=False)
    session: Mapping[str, Any] = attrs.field(repr=False)
    batch: Mapping[str, Any] = attrs.field(repr=False)

    @classmethod
    def of(
        cls, journal: str, session: Mapping[str, Any], batch: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> "WorkerOptions":
        """Return checked options.

        Raises:
            ContractError: The journal is no PostgreSQL URL, or there is a secret among the fields.
            JournalError: The URL cannot be read.
        """
        if problems := [*_find_problems(journal, fields)]:
            raise ContractError(problems=tuple(problems), undone="started")
        given = {name: value for name, value in session.items() if value is not None}
        return cls(journal=journal, session=given, batch={**batch, **fields})


def _find_problems(journal: object, fields: Mapping[str, Any]) -> Iterator[Problem]:
    if not isinstance(journal, str) or Address.of(journal) is None:
        words = "must be a URL such as postgresql://host/database: workers on several machines cannot share a file"
        yield Problem("journal", words)
    for name in _SECRET.keys() & fields.keys():
        yield Problem(name, _SECRET[name])
