"""Names are resolved to permitted addresses only."""

import asyncio
import socket

import pytest

from lemon_async import DownloadError, LemonSession, PollPolicy
from lemon_async._http.connections import PrivateAddress, PublicResolver
from lemon_async._images.downloads import Downloads
from lemon_async._images.links import LinkClient
from lemon_async.emulator import Emulator, Redirect, Result


class LoopOfNames(asyncio.SelectorEventLoop):
    """A loop that looks names up in a table, and counts how often."""

    def __init__(self, table):
        super().__init__()
        self._table = table
        self.asked = []

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):  # noqa: A002 - as the loop's
        if host not in self._table:
            return await super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
        self.asked.append(host)
        found = []
        for address in self._table[host]:
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            rest = (port, 0, 0) if kind is socket.AF_INET6 else (port,)
            found.append((kind, socket.SOCK_STREAM, 6, "", (address, *rest)))
        return found


def resolve(*addresses, host="cdn.test", **options):
    async def ask():
        resolver = PublicResolver(**{"allow_loopback": False, "own_host": None, **options})
        try:
            return [found["host"] for found in await resolver.resolve(host, 443, socket.AF_UNSPEC)]
        finally:
            await resolver.close()

    with asyncio.Runner(loop_factory=lambda: LoopOfNames({host: addresses})) as runner:
        return runner.run(ask())


PRIVATE = [
    "10.0.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "192.168.1.1",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
    "fc00::1",
]


def test_name_that_leads_inside_has_no_address():
    for address in PRIVATE:
        with pytest.raises(PrivateAddress, match="leads to a private address"):
            resolve(address)


def test_address_that_stands_for_a_public_one_is_kept():
    """Networks without IPv4 translate it, and tunnels return placeholder addresses for every name."""
    for address in ["64:ff9b::5db8:d822", "198.18.0.5", "2606:4700::1111%eth0"]:
        assert resolve(address) == [address]


def test_public_addresses_are_kept_and_private_ones_left_out():
    assert resolve("10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111") == ["1.1.1.1", "2606:4700::1111"]


def test_name_without_addresses_has_none():
    assert resolve() == []


def test_names_lead_to_this_machine_where_that_is_allowed():
    assert resolve("127.0.0.1", "::1", "10.0.0.1", allow_loopback=True) == ["127.0.0.1", "::1"]


def test_host_of_the_api_may_be_anywhere():
    """A gateway may have a private address; this does not extend to other names."""
    assert resolve("10.0.0.1", own_host="cdn.test") == ["10.0.0.1"]
    with pytest.raises(PrivateAddress):
        resolve("10.0.0.1", own_host="api.test")


def test_host_that_is_named_may_be_anywhere():
    """It may be named with one port, or without for all ports."""
    assert resolve("10.0.0.1", host="CDN.test", http_hosts={"cdn.test"}) == ["10.0.0.1"]
    assert resolve("10.0.0.1", host="cdn.test", http_hosts={"cdn.test:443"}) == ["10.0.0.1"]
    with pytest.raises(PrivateAddress):
        resolve("10.0.0.1", host="cdn.test", http_hosts={"cdn.test:444", "api.test"})


def download(table, url, **options):
    """Return how the download of an https link ends, and the names that were looked up."""

    async def fetch():
        downloads = Downloads(LinkClient(connect_s=60, allow_loopback=False, **options), total_s=60, limit=1, pause_s=0)
        try:
            await downloads.fetch(url)
        except DownloadError as error:
            return error
        finally:
            await downloads.aclose()

    loop = LoopOfNames(table)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(fetch()), loop.asked


def test_link_to_a_name_with_a_private_address_is_not_followed():
    """It is refused without a retry, and no connection is made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"https://cdn.test:{server.getsockname()[1]}/1.png?sig=secret"
        error, asked = download({"cdn.test": ["127.0.0.1"]}, url)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert error.reason == "not followed, because its host leads to a private address"
    assert "secret" not in error.url
    assert asked == ["cdn.test"]


def test_host_of_the_api_is_connected_to_at_the_address_that_was_looked_up():
    """A second look-up could return another address."""
    with socket.socket() as closed:  # bound, so that no other program listens there
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        error, asked = download({"api.test": ["127.0.0.1"]}, f"https://api.test:{port}/1.png", own_host="api.test")
    assert error.reason.startswith(f"cannot connect to api.test:{port}")
    assert asked == ["api.test"]


QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=120)


def with_named_emulator(work, named="emulator"):
    """Run `work(emulator, session)` with an emulator that the session reaches as `http://emulator:<port>`."""

    async def run():
        async with Emulator(
            speed=6000, durations=30.0, host="127.0.0.1", allowed_hosts={"emulator", "other"}
        ) as emulator:
            port = emulator.base_url.rpartition(":")[2]
            options = {"base_url": f"http://emulator:{port}", "allow_http": {named.format(port=port)}}
            async with LemonSession(emulator.api_key, polling=QUICK, **options) as session:
                await work(emulator, session)

    table = {"emulator": ["127.0.0.1"], "other": ["127.0.0.1"]}
    with asyncio.Runner(loop_factory=lambda: LoopOfNames(table)) as runner:
        runner.run(run())


@pytest.mark.parametrize("named", ["emulator", "emulator:{port}"])
def test_emulator_on_a_named_host_is_submitted_to_polled_and_downloaded_from(named):
    """Its address is in a private network, where no other link may lead."""

    async def work(_emulator, session):
        images = await session.generate("a cat", model="flux-pro")
        assert images[0].url.startswith(f"{session.base_url}/cdn/")
        assert len(await images[0].read()) > 0

    with_named_emulator(work, named)


@pytest.mark.parametrize("way", ["link", "redirect"])
@pytest.mark.parametrize("place", ["http://other:{port}/1.png", "http://127.0.0.1:{port}/1.png", "http://emulator:1/"])
def test_named_host_and_port_lead_to_no_other_by_plain_http(way, place):
    async def work(emulator, session):
        url = place.format(port=emulator.base_url.rpartition(":")[2])
        if way == "link":
            emulator.fault("submit", Result([{"url": url}]))
        else:
            emulator.fault("cdn", Redirect(url))
        images = await session.generate("a cat", model="flux-pro")
        with pytest.raises(DownloadError, match="not followed, because it does not use https"):
            await images[0].read()
        assert not any(seen.path == "/1.png" for seen in emulator.requests)

    with_named_emulator(work, "emulator:{port}")
