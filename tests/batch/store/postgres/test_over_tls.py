"""A journal that is reached over TLS."""

import pytest

from journals import new_rows
from lemon_async.batch.opening import open_journal
from lemon_async.errors import JournalError
from tls import Authority, authority, postgres_over_tls


@pytest.fixture(scope="module")
def tls_url(postgres):
    with postgres_over_tls(postgres) as url:
        yield f"{url}?sslmode=verify-full&sslrootcert="


def test_connection_is_encrypted_and_made_again_when_it_ends(tls_url, open_store, end_session):
    """With the certificate of an authority that the URL names."""
    store = open_store(f"{tls_url}{authority().file}", patience_s=60)
    assert store._link._connection.pgconn.ssl_in_use
    assert store.add(new_rows(3)) == 3
    end_session(store)
    assert store.add(new_rows(5)) == 2


async def test_server_that_cannot_be_verified_is_refused(tls_url):
    """The error is about TLS, not about a server that is down."""
    with pytest.raises(JournalError, match=r"correct sslmode and sslrootcert.*certificate"):
        async with open_journal(f"{tls_url}{Authority().file}"):
            pass
