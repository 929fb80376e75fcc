"""A port for one page."""

import asyncio

import aiohttp
import pytest

from lemon_async._web.server import PageServer
from pages import make_pages


async def test_the_server_listens_until_the_block_ends():
    pages, _ = make_pages()
    async with PageServer(pages) as server, aiohttp.ClientSession() as http:
        assert server.url == f"http://127.0.0.1:{server.port}/"
        async with http.get(server.url) as answer:
            assert answer.status == 200
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_an_open_stream_does_not_keep_the_server():
    pages, _ = make_pages()
    async with asyncio.timeout(60):
        async with PageServer(pages) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /_page/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b"event: summary")
        await reader.read()
        writer.close()


async def test_a_port_that_is_taken_is_an_error():
    async with PageServer(make_pages()[0]) as server:
        with pytest.raises(OSError, match="address already in use"):
            async with PageServer(make_pages()[0], port=server.port):
                pass
