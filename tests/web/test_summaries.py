"""The stream of summaries."""

import asyncio
import itertools
import logging
from collections import Counter

import aiohttp

from lemon_async._web.server import PageServer
from lemon_async._web.summaries import Summaries
from pages import FLOOD, make_pages

LIMIT_S = 60


class Source:
    """A summary that tests change."""

    def __init__(self, value=0):
        self.value = value
        self.reads = 0

    async def read(self):
        self.reads += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


async def until(condition):
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.001)


async def open_stream(http, url):
    return await http.get(f"{url}_page/events", timeout=aiohttp.ClientTimeout(sock_read=LIMIT_S))


async def events(answer):
    """Yield the data of each event, and comments as they are."""
    async for line in answer.content:
        if line.startswith((b"data: ", b": ")):
            yield line.strip().removeprefix(b"data: ")


async def test_a_summary_is_sent_when_it_has_changed():
    source = Source()
    summaries = Summaries(read=source.read, gap_s=0.001)
    async with PageServer(make_pages(summaries)[0]) as server, aiohttp.ClientSession() as http:
        answer = await open_stream(http, server.url)
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Content-Security-Policy"]
        seen = events(answer)
        assert [await anext(seen), await anext(seen)] == [b": open", b"0"]
        read = source.reads
        await until(lambda: source.reads > read + 3)
        source.value = "next\ndata: forged"
        assert await anext(seen) == rb'"next\ndata: forged"'  # and nothing between them
        answer.close()


async def test_nothing_is_read_unless_a_page_is_open():
    """One task reads for all pages, and ends with the last one."""
    source = Source()
    summaries = Summaries(read=source.read, gap_s=0.001)
    async with PageServer(make_pages(summaries)[0]) as server, aiohttp.ClientSession() as http:
        assert (summaries.is_running, source.reads) == (False, 0)
        answers = [await open_stream(http, server.url) for _ in range(3)]
        for answer in answers:
            seen = events(answer)
            assert [await anext(seen), await anext(seen)] == [b": open", b"0"]
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert names.count("lemon-page-summary") == 1
        for answer in answers:
            answer.close()
        await until(lambda: not summaries.is_running)
        assert not summaries.clients


async def test_one_page_too_many_is_refused():
    source = Source()
    summaries = Summaries(read=source.read, gap_s=0.001, max_clients=2)
    async with PageServer(make_pages(summaries)[0]) as server, aiohttp.ClientSession() as http:
        answers = [await open_stream(http, server.url) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 503]
        answers[0].close()
        await until(lambda: summaries.clients == 1)
        again = await open_stream(http, server.url)
        assert again.status == 200
        for answer in [*answers, again]:
            answer.close()


async def test_a_quiet_stream_has_heartbeats():
    summaries = Summaries(read=Source().read, gap_s=0.001, heartbeat_s=0.001)
    async with PageServer(make_pages(summaries)[0]) as server, aiohttp.ClientSession() as http:
        answer = await open_stream(http, server.url)
        seen = events(answer)
        found = Counter([await anext(seen) for _ in range(5)])
        answer.close()
        assert found == {b": open": 4, b"0": 1}


async def test_a_client_that_does_not_read_is_disconnected():
    """Others are sent every summary meanwhile."""
    counter = itertools.count()

    async def read():
        return f"{next(counter)}" * 20_000

    summaries = Summaries(read=read, gap_s=0.001, send_s=0.05)
    async with PageServer(make_pages(summaries)[0]) as server, aiohttp.ClientSession() as http:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.write(b"GET /_page/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await until(lambda: summaries.clients == 1)
        await until(lambda: not summaries.clients)
        writer.close()
        async with await open_stream(http, server.url) as answer:
            seen = events(answer)
            assert await anext(seen) == b": open"


async def test_an_error_of_the_source_ends_the_streams(caplog):
    """It is logged; a page that connects again starts anew."""
    source = Source(ValueError("broken"))
    summaries = Summaries(read=source.read, gap_s=0.001)
    async with PageServer(make_pages(summaries)[0]) as server, aiohttp.ClientSession() as http:
        with caplog.at_level(logging.ERROR):
            async with await open_stream(http, server.url) as answer:
                assert b"summary" not in await answer.read()
        assert "cannot be read" in caplog.text
        source.value = 1
        async with await open_stream(http, server.url) as answer:
            seen = events(answer)
            assert [await anext(seen), await anext(seen)] == [b": open", b"1"]


async def test_a_flood_of_clients_is_refused():
    source = Source()
    summaries = Summaries(read=source.read, gap_s=0.001)
    async with PageServer(make_pages(summaries)[0]) as server:
        sockets = []
        for _ in range(FLOOD):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /_page/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            sockets.append((reader, writer))
        async with asyncio.timeout(LIMIT_S):
            heads = [await reader.readuntil(b"\r\n") for reader, _ in sockets]
        assert heads.count(b"HTTP/1.1 200 OK\r\n") == summaries.max_clients
        assert heads.count(b"HTTP/1.1 503 Service Unavailable\r\n") == FLOOD - summaries.max_clients
        for _, writer in sockets:
            writer.transport.abort()
        await until(lambda: not summaries.is_running)
