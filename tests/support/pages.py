"""A page with a few files and endpoints, and requests to it."""

import resource
from contextlib import asynccontextmanager

import aiohttp

from lemon_async._web.assets import Assets
from lemon_async._web.host_header import AllowedHosts
from lemon_async._web.pages import Pages
from lemon_async._web.replies import json_reply, read_json
from lemon_async._web.server import PageServer
from lemon_async._web.summaries import Summaries

# A flood of connections, each of two files of this process.
FLOOD = 1000 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 4096 else 200
HTML = b"<!doctype html><html><head><title>A page</title></head><body></body></html>"


def make_pages(summaries=None, **endpoints):
    """Return a page whose `POST /_page/things` keeps what it is sent in `things`."""
    things = []

    async def read():
        return {"things": len(things)}

    async def add(request, _args):
        things.append(await read_json(request))
        return json_reply(things, 201)

    async def show(_request, args):
        return json_reply(dict(args))

    pages = Pages(
        page="page.html",
        hosts=AllowedHosts("127.0.0.1", ()),
        endpoints={"POST /_page/things": add, "GET /_page/things/{id}/{index}": show, **endpoints},
        summaries=summaries or Summaries(read=read, gap_s=0.001),
        meta={"greeting": '"><script>'},
        assets=Assets({"page.html": HTML, "page.js": b"export {}", "icon.png": b"\x89PNG"}),
    )
    return pages, things


@asynccontextmanager
async def serving(pages):
    """Serve a page; yield a function that sends one request and returns status, headers and body."""
    async with PageServer(pages) as server, aiohttp.ClientSession() as http:

        async def ask(method, path, **options):
            async with http.request(method, server.url.rstrip("/") + path, **options) as answer:
                return answer.status, answer.headers, await answer.read()

        ask.url = server.url
        yield ask


def own_headers(pages, url):
    """Return the headers with which a page makes changes."""
    return {"X-Page-Token": pages.protection.token, "Origin": url.rstrip("/")}
