"""Stores that are reached over TLS, with certificates of an authority that the URL names."""

import asyncio
from types import SimpleNamespace

import pytest

from lemon_async._http.shared_limit import redis
from lemon_async.errors import ContractError
from limit_cases import Bench, pauses_reach_all, reserve
from redis_server import RedisServer
from servers import free_port
from tls import Authority, authority, postgres_over_tls


@pytest.fixture(scope="module")
def redis_url():
    certificate, key = authority().issue()
    files = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority().file)
    port = free_port()
    with RedisServer(options=("--tls-port", str(port), "--tls-auth-clients", "no", *files)):
        yield f"rediss://127.0.0.1:{port}?ssl_ca_certs="


@pytest.fixture(scope="module")
def postgres_url(postgres):
    with postgres_over_tls(postgres) as url:
        yield f"{url}?sslmode=verify-full&sslrootcert="


@pytest.fixture(params=["redis_url", "postgres_url"])
def url(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def bench():
    bench = Bench(server=None)
    yield bench
    await bench.aclose()
    async with asyncio.timeout(60):  # connections over TLS say goodbye to each other; one file is that of the loop
        while len(asyncio.get_running_loop()._selector.get_map()) > 1:
            await asyncio.sleep(0.001)


async def test_slots_are_granted_and_pauses_heard(url, bench):
    """With the certificate of an authority that the URL names."""
    bench.server = SimpleNamespace(url=f"{url}{authority().file}")
    await pauses_reach_all(bench)


async def test_certificate_of_another_authority_is_refused(url, bench):
    """At once: it will not become right by itself."""
    with pytest.raises(ContractError, match=r"127\.0\.0\.1.*certificate"):
        await reserve(bench.open(f"{url}{Authority().file}"))


async def test_closing_leaves_no_connection_open(url, bench, open_files, monkeypatch):
    """The end of TLS takes the server, too; what is still open when the event loop ends gives warnings."""
    monkeypatch.setattr(redis, "_CLOSE_S", 60.0)
    before = open_files()
    store = bench.open(f"{url}{authority().file}")
    await reserve(store)
    assert open_files() > before
    await store.aclose()
    async with asyncio.timeout(60):  # for a thread of an earlier emulator that still draws
        while open_files() > before:
            await asyncio.sleep(0.001)
