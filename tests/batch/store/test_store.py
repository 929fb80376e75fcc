import inspect

import pytest

from lemon_async.batch.store.postgres.store import PostgresStore
from lemon_async.batch.store.sqlite.store import SqliteStore
from lemon_async.batch.store.store import Store


@pytest.mark.parametrize("kind", [SqliteStore, PostgresStore])
def test_stores_have_the_methods_of_the_protocol(kind):
    """With the same parameters."""
    methods = {name: method for name, method in vars(Store).items() if callable(method) and not name.startswith("_")}
    for name, method in methods.items():
        assert [*inspect.signature(getattr(kind, name)).parameters] == [*inspect.signature(method).parameters]
