"""Fixtures of the tests of a shared rate limit."""

import pytest

from lemon_async._http.shared_limit import postgres, redis


@pytest.fixture(autouse=True)
def patient(request, monkeypatch):
    """Give a server more than two seconds, because the machine may be busy; but not where they are the claim."""
    if "two_seconds" not in request.node.name:
        for store in (postgres, redis):
            monkeypatch.setattr(store, "TIMEOUT_S", 120.0)
        monkeypatch.setattr(postgres, "_PREPARE", postgres._PREPARE.replace("= 2000;", "= 120000;"))
        monkeypatch.setitem(redis._OPTIONS, "socket_connect_timeout", 120.0)
