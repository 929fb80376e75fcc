"""Stores in one database, which end with the test."""

import pytest

from lemon_async.batch.store.postgres.address import Address
from lemon_async.batch.store.postgres.store import PostgresStore
from servers import free_port


@pytest.fixture
def url(postgres):
    return postgres.new_journal()


@pytest.fixture
def open_store(url):
    """Open stores of one journal, or of another URL."""
    stores = []

    def open_one(where=url, *, kind=PostgresStore, **options):
        stores.append(kind(Address.of(where), **options))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def end_session(postgres):
    """End the session of a store, as a restart or an administrator does."""

    def end(store):
        pid = store._link._connection.info.backend_pid
        postgres.execute(f"SELECT pg_terminate_backend({pid}, 60000)")

    return end


@pytest.fixture
def unused_port():
    return free_port()
