from pathlib import Path

import pytest

from lemon_async.batch.store.postgres.address import Address
from lemon_async.errors import JournalError


@pytest.mark.parametrize(
    ("url", "name", "parameters"),
    [
        ("postgresql://", "postgresql:///", {}),
        ("postgres://h/db", "postgresql://h/db", {"host": "h", "dbname": "db"}),
        (
            "postgresql://u:p%40s@h:5432/db?sslmode=require",
            "postgresql://h:5432/db",
            {"user": "u", "password": "p@s", "host": "h", "port": "5432", "dbname": "db", "sslmode": "require"},
        ),
        (
            "postgresql://u:p@ss@h/db",
            "postgresql://h/db",
            {"user": "u", "password": "p@ss", "host": "h", "dbname": "db"},
        ),
        ("postgresql://h1:1,h2:2/db", "postgresql://h1:1,h2:2/db", {"host": "h1,h2", "port": "1,2", "dbname": "db"}),
        ("postgresql://[::1]:5/db", "postgresql://[::1]:5/db", {"host": "::1", "port": "5", "dbname": "db"}),
        (
            "postgresql:///db?host=/tmp/x&password=p&schema=two",
            "postgresql:///db?host=/tmp/x&schema=two",
            {"dbname": "db", "host": "/tmp/x", "password": "p"},
        ),
    ],
)
def test_url_becomes_parameters_and_a_name_without_credentials(url, name, parameters):
    """The name shows where the journal is, and nothing of the login."""
    address = Address.of(url)
    assert (address.name, dict(address.parameters)) == (name, parameters)
    assert address.schema == ("two" if "schema=two" in url else "lemon_async")
    assert "p@s" not in repr(address)


def test_paths_are_no_addresses():
    """Whatever they are made of."""
    assert Address.of("run.db") is None
    assert Address.of(Path("postgresql:/run.db")) is None
    assert Address.of("C://shop/run.db") is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:se/cret@h/db", "special characters of a password are written as %XX"),
        ("postgresql://u:se?cret@h/db", "special characters of a password are written as %XX"),
        ("postgresql://u:se#cret@h/db", "special characters of a password are written as %XX"),
        ("postgresql://u:secret@h:port/db", "must look like postgresql://user:password@host:5432/database"),
        ("postgresql://u:secret@h/db?schema=A b", "'A b' is no name for a schema; use lower-case letters"),
        ("postgresql://u:secret@h/db?schema=pg_x", "'pg_x' is no name for a schema"),
    ],
)
def test_unreadable_urls_are_refused_without_being_shown(url, words):
    """A part of the password may have been taken for something else."""
    with pytest.raises(JournalError) as caught:
        Address.of(url)
    assert words in str(caught.value)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql", "redis", " postgresql"])
def test_other_urls_are_no_files(scheme):
    """Such as those of SQLAlchemy: the path of a file would be shown, with the password in it."""
    with pytest.raises(JournalError, match="must be a path, or begin with postgresql://") as caught:
        Address.of(f"{scheme}://u:secret@h/db")
    assert f"{scheme}://…" in str(caught.value)
    assert "secret" not in str(caught.value)
