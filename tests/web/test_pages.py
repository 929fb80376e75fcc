"""The requests of a page."""

import re

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from lemon_async._web.pages import Pages
from lemon_async._web.replies import SECURITY_HEADERS
from pages import make_pages, serving


async def test_the_page_carries_its_token_and_escapes_what_it_is_told():
    pages, _ = make_pages()
    async with serving(pages) as ask:
        status, headers, body = await ask("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    meta = dict(re.findall(r'<meta name="([a-z-]+)" content="([^"]*)">', body.decode()))
    assert meta == {"page-token": pages.protection.token, "greeting": "&quot;&gt;&lt;script&gt;"}


async def test_every_answer_has_the_security_headers():
    """Errors too; only static files may be stored."""
    async with serving(make_pages()[0]) as ask:
        for path in ("/", "/_page/static/page.js", "/_page/things/1/2", "/_page/none", "/_page/static/none"):
            _, headers, _ = await ask("GET", path)
            assert SECURITY_HEADERS.items() <= dict(headers).items(), path
            assert headers["Cache-Control"] == ("no-cache" if path.endswith(".js") else "no-store"), path


async def test_parts_of_the_path_are_arguments():
    async with serving(make_pages()[0]) as ask:
        assert (await ask("GET", "/_page/things/a:b-1/2"))[2] == b'{"id":"a:b-1","index":"2"}'
        assert (await ask("GET", "/_page/things/a/b/c"))[0] == 404
        assert (await ask("GET", "/_page/things/a%2Fb/c"))[0] == 404


async def test_reading_changes_nothing():
    """A GET of what takes a POST is refused."""
    pages, things = make_pages()
    async with serving(pages) as ask:
        status, headers, _ = await ask("GET", "/_page/things")
    assert (status, headers["Allow"], things) == (405, "POST", [])


async def test_a_page_works_in_an_application():
    """`handle` is also a handler of routes."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", make_pages()[0].handle)
    async with TestServer(application) as server, TestClient(server) as client, client.get("/") as answer:
        assert answer.status == 200


def test_a_page_owns_the_root_and_its_prefix():
    assert [path for path in ("/", "/_page/x", "/_pages", "/v1/models", "") if Pages.owns(path)] == ["/", "/_page/x"]
