"""Fetching source pictures from other servers."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from lemon_async.emulator import Emulator
from lemon_async.emulator.http.source_fetcher import (
    PublicResolver,
    SourceFetcher,
    TooLarge,
    _check_room,
)
from lemon_async.emulator.service.job_spec import MAX_FETCHED_BYTES
from lemon_async.emulator.service.messages import MAX_FILE_BYTES
from lemon_async.emulator.service_errors import ServiceError

HOST = "pictures.example"


class Gallery:
    """A server of pictures on this machine, which records its requests."""

    def __init__(self):
        self.answers = {}
        self.seen = []

    async def handle(self, request):
        self.seen.append((request.path, dict(request.headers)))
        answer = self.answers.get(request.path, web.Response(status=404))
        return await answer(request) if callable(answer) else answer


@pytest.fixture
async def gallery():
    gallery = Gallery()
    server = web.Server(gallery.handle, handler_cancellation=True)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gallery.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield gallery
    await runner.cleanup()


@pytest.fixture
async def emu(gallery):
    hosts = {HOST: gallery.address, "Other.Example.": gallery.address}
    async with Emulator(durations=0, fetch_remote=True, remote_hosts=hosts) as emulator:
        yield emulator


@pytest.fixture
def shown(gallery, picture):
    """Add a picture to the gallery; return its URL."""

    def show(path="/a.png", body=None, **options):
        gallery.answers[path] = web.Response(body=picture() if body is None else body, **options)
        return f"http://{HOST}{path}"

    return show


def redirect(location, status=302):
    return web.Response(status=status, headers={"Location": location})


def refused(answer):
    return answer.status, answer.json["error"]["param"]


class Resolver(AbstractResolver):
    """A resolver for which every name has these addresses."""

    def __init__(self, *addresses):
        self.addresses = addresses

    async def resolve(self, host, port=0, family=0):
        if not self.addresses:
            raise OSError(8, "no such name")
        return [ResolveResult(hostname=host, host=address, port=port) for address in self.addresses]

    async def close(self):
        pass


def resolving(*addresses):
    """Return a fetcher for which every name resolves to these addresses."""
    return SourceFetcher(is_on=True, make_resolver=lambda: Resolver(*addresses))


async def words_of(fetching):
    """Return the message of a refused fetch."""
    with pytest.raises(ServiceError) as refused:
        await fetching
    return refused.value.message


async def test_remote_source_is_fetched_and_edited(client, gallery, shown, pixels):
    answer = await client.edit_json(image_urls=[shown(), shown("/b.webp")])
    assert pixels((await client.get(answer.json["data"][0]["url"])).raw).size == (16, 16)
    assert [path for path, _ in gallery.seen] == ["/a.png", "/b.webp"]


async def test_source_in_an_images_list_is_fetched_too(client, shown):
    assert (await client.edit_json(images=[{"image_url": shown()}])).status == 200


async def test_request_carries_no_key_and_no_cookie_and_uses_no_proxy(client, gallery, shown, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    gallery.answers["/c"] = redirect("/a.png")
    gallery.answers["/c"].set_cookie("a", "b")
    shown()
    assert (await client.edit_json(image_url=f"http://{HOST}/c")).status == 200
    for _, headers in gallery.seen:
        assert set(headers) <= {"Host", "Accept", "Accept-Encoding", "User-Agent", "Connection"}
        assert headers["Host"] == HOST


@pytest.mark.parametrize("body", [b"", b"<html>", b"GIF89a" + bytes(100)])
async def test_response_that_is_no_picture_is_refused_whatever_its_type(emu, client, shown, body):
    url = shown(body=body, content_type="image/png")
    assert refused(await client.edit_json(image_url=url)) == (400, "image_url")
    assert not emu.ledger.sold


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_error_of_the_picture_s_server_is_an_input_error(client, shown, status):
    answer = await client.edit_json(image_urls=[shown(), shown("/b", status=status)])
    assert refused(answer) == (400, "image_urls[1]")
    assert str(status) in answer.json["error"]["message"]


async def test_refused_connection_is_an_input_error(client_of):
    async with Emulator(fetch_remote=True, remote_hosts={HOST: "127.0.0.1:1"}) as emu:
        assert refused(await client_of(emu).edit_json(image_url=f"http://{HOST}/")) == (400, "image_url")


@pytest.mark.parametrize(("hops", "status"), [(3, 200), (4, 400)])
async def test_three_redirects_are_followed(client, gallery, shown, hops, status):
    shown("/0")
    for hop in range(hops):
        gallery.answers[f"/{hop + 1}"] = redirect(f"http://other.example/{hop}", 307)
    answer = await client.edit_json(image_url=f"http://{HOST}/{hops}")
    assert answer.status == status


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1/", "//localhost/", "http://u@pictures.example/", "/a.png#x", "file:///a.png", "http://0x7f.1/"],
)
async def test_each_redirect_is_checked(client, gallery, shown, location):
    shown()
    gallery.answers["/r"] = redirect(location)
    assert refused(await client.edit_json(image_url=f"http://{HOST}/r")) == (400, "image_url")
    assert len(gallery.seen) == 1


async def test_redirect_to_the_gallery_by_its_address_is_refused(client, gallery, shown):
    """Only the names in `remote_hosts` lead to this machine."""
    shown()
    gallery.answers["/r"] = redirect(f"http://{gallery.address}/a.png")
    assert refused(await client.edit_json(image_url=f"http://{HOST}/r")) == (400, "image_url")
    assert refused(await client.edit_json(image_url=f"http://{gallery.address}/a.png")) == (400, "image_url")


@pytest.mark.parametrize("addresses", [("10.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("::1",), ("fe80::1%eth0",)])
async def test_name_that_resolves_to_a_private_address_is_refused(addresses):
    """One private address among public ones is enough."""
    words = await words_of(resolving(*addresses).fetch("http://evil.example/", "image_url", MAX_FETCHED_BYTES))
    assert "which is not public" in words


async def test_resolver_returns_the_addresses_that_it_has_checked():
    """TLS certificates are checked against the name, whatever the address."""
    resolver = PublicResolver({HOST: ("127.0.0.1", 8001)}, Resolver("8.8.8.8", "2606:4700::1111"))
    found = await resolver.resolve("good.example", 81)
    assert [(row["host"], row["port"]) for row in found] == [("8.8.8.8", 81), ("2606:4700::1111", 81)]
    own = await PublicResolver({HOST: ("127.0.0.1", 8001)}, aiohttp.ThreadedResolver()).resolve(f"{HOST}.", 443)
    assert [(row["hostname"], row["host"], row["port"]) for row in own] == [(f"{HOST}.", "127.0.0.1", 8001)]


async def test_name_that_does_not_resolve_is_an_input_error():
    words = await words_of(resolving().fetch("http://nowhere.example/", "image_url", MAX_FETCHED_BYTES))
    assert words.startswith("image_url: cannot be fetched: ")
    assert "no such name" in words


async def test_fetch_is_bounded_by_a_total_timeout(gallery):
    """A server that drips would never hit a timeout between two bytes."""

    async def drip(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.002)

    gallery.answers["/"] = drip
    fetcher = SourceFetcher(is_on=True, hosts={HOST: gallery.address}, timeout_s=0.03)
    words = await words_of(fetcher.fetch(f"http://{HOST}/", "image_url", MAX_FETCHED_BYTES))
    assert words == "image_url: was not fetched within 0.03 s"


@pytest.mark.parametrize(
    ("size", "left", "is_allowed"),
    [
        (MAX_FILE_BYTES, MAX_FETCHED_BYTES, True),
        (MAX_FILE_BYTES + 1, MAX_FETCHED_BYTES, False),
        (10, 10, True),
        (11, 10, False),
    ],
)
def test_bytes_are_limited_per_source_and_per_request(size, left, is_allowed):
    if is_allowed:
        _check_room(size, left)
    else:
        with pytest.raises(TooLarge):
            _check_room(size, left)


async def test_announced_length_above_the_limit_is_refused_unread(client, gallery):
    async def announce(request):
        response = web.StreamResponse(headers={"Content-Length": str(MAX_FILE_BYTES + 1)})
        await response.prepare(request)
        await asyncio.get_running_loop().create_future()

    gallery.answers["/"] = announce
    answer = await client.edit_json(image_url=f"http://{HOST}/")
    assert (*refused(answer), answer.json["error"]["code"]) == (413, "image_url", "payload_too_large")


async def test_unannounced_length_is_counted_over_all_sources(gallery):
    async def chunks(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(bytes(600))
        return response

    gallery.answers["/"] = chunks
    fetcher = SourceFetcher(is_on=True, hosts={HOST: gallery.address})
    with await fetcher.fetch(f"http://{HOST}/", "image_urls[0]", 1000) as file:
        assert file.tell() == 600
    with pytest.raises(ServiceError) as refused:
        await fetcher.fetch(f"http://{HOST}/", "image_urls[1]", 400)
    assert (refused.value.status, refused.value.param) == (413, "image_urls[1]")


async def test_compressed_response_is_not_decompressed(client, shown):
    """A decompression bomb stays small: its bytes are not a picture."""
    url = shown(body=b"\x1f\x8b" + bytes(100), headers={"Content-Encoding": "gzip"})
    assert refused(await client.edit_json(image_url=url)) == (400, "image_url")


async def test_cancelling_ends_the_fetch(gallery):
    async def never(_request):
        await asyncio.get_running_loop().create_future()

    gallery.answers["/"] = never
    fetcher = SourceFetcher(is_on=True, hosts={HOST: gallery.address})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await fetcher.fetch(f"http://{HOST}/", "image_url", MAX_FETCHED_BYTES)


@pytest.mark.parametrize("where", ["127.0.0.1", "example.com:80", "127.0.0.1:x", ""])
def test_remote_hosts_have_an_address_and_a_port(where):
    with pytest.raises(ValueError, match="must look like"):
        Emulator(fetch_remote=True, remote_hosts={HOST: where})


def test_remote_hosts_need_fetch_remote():
    with pytest.raises(ValueError, match="fetch_remote=True"):
        Emulator(remote_hosts={HOST: "127.0.0.1:80"})


async def test_remote_host_may_have_an_ipv6_address():
    fetcher = SourceFetcher(is_on=True, hosts={"Six.Example.": "[::1]:80"})
    assert fetcher.hosts == {"six.example": ("::1", 80)}
