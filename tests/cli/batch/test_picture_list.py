"""Rows are pictures of a page: paged from the end, filtered, and with what to do about them."""

import json
import shlex
from contextlib import asynccontextmanager

import aiohttp
import pytest

from journals import accept, intend, new_row, save
from lemon_async._web.host_header import AllowedHosts
from lemon_async._web.pages import Pages
from lemon_async._web.server import PageServer
from lemon_async._web.summaries import Summaries
from lemon_async.batch import JournalRow, State, open_journal, watch_journal
from lemon_async.cli.batch import picture_list
from lemon_async.cli.batch.picture_list import PictureList, advice_for, picture_of

HOSTILE = [
    '"><script>alert(1)</script>',
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "a\nb\r\0\x1b[31m",
    "\u202egnp.exe",
    "'; DROP TABLE rows; --",
    "../../etc/passwd",
    "-rf",
    "猫 🐈",
]


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A machine that is slow does not end a search."""
    monkeypatch.setattr(picture_list, "_SEARCH_S", 60)


async def nothing():
    return {}


@asynccontextmanager
async def page_of(path):
    """Serve the lists of a journal; yield a function that gets a path and returns status and JSON."""
    async with watch_journal(path) as view, aiohttp.ClientSession() as http:
        pictures = PictureList(view, "run.db")
        endpoints = {"GET /_page/pictures": pictures.show, "GET /_page/files/{id}/{index}": pictures.whole}
        pages = Pages(
            page="batch.html",
            hosts=AllowedHosts("127.0.0.1", ()),
            endpoints=endpoints,
            summaries=Summaries(read=nothing),
        )
        async with PageServer(pages) as server:

            async def get(path="/_page/pictures", **query):
                async with http.get(server.url.rstrip("/") + path, params=query) as answer:
                    return answer.status, json.loads(await answer.read())

            yield get
        pictures.close()


@pytest.fixture
async def large(tmp_path):
    """Ten thousand rows, of which every hundredth is done."""
    path = tmp_path / "run.db"
    async with open_journal(path, create=True) as journal:
        await journal.add([new_row(f"k{number}") for number in range(10_000)])
        changes = [
            journal.record(change)
            for key in (f"k{number}" for number in range(0, 10_000, 100))
            for change in (intend(key), accept(key), save(key))
        ]
        for change in changes:
            await change
    return path


async def all_pages(get, **query):
    pages = []
    before = ""
    while before is not None:
        status, page = await get(**query, before=before)
        assert status == 200
        pages.append(page)
        before = page["next"]
    return pages


async def test_list_is_paged_from_the_end(large):
    """Sixty rows a page; without a state, those that have not ended are left out."""
    async with page_of(large) as get:
        pages = await all_pages(get)
        new = await all_pages(get, state="new")
    assert [len(page["items"]) for page in pages] == [60, 40]
    assert {page["total"] for page in pages} == {100}
    assert [item["id"] for page in pages for item in page["items"]] == [str(n) for n in range(9900, -1, -100)]
    assert sum(len(page["items"]) for page in new) == new[0]["total"] == 9900
    assert len(new) == 165


async def test_list_is_searched(large, monkeypatch):
    """In keys and prompts; a search that takes long goes on at the next page."""
    async with page_of(large) as get:
        (page,) = await all_pages(get, state="new", q="OF K779")
        assert [item["key"] for item in page["items"]][-2:] == ["k7790", "k779"]
        assert page["total"] == len(page["items"]) == 11
        monkeypatch.setattr(picture_list, "_SEARCH_S", -1)
        pages = await all_pages(get, state="new", q="k77")
    assert len(pages) > 40
    assert pages[0]["total"] is None
    assert sum(len(page["items"]) for page in pages) == 110


@pytest.mark.parametrize("query", [{"state": "stolen"}, {"before": "-1"}, {"before": "x"}, {"before": "\u0661"}])
async def test_wrong_parameter_is_an_error(large, query):
    async with page_of(large) as get:
        status, body = await get(**query)
    assert status == 400
    assert body["error"]["message"]


@pytest.mark.parametrize("path", ["/0/9", "/1/0", "/99999999999999999999999/0", "/x/0", "/0/-1"])
async def test_picture_that_is_not_in_the_journal_is_an_error(large, path):
    async with page_of(large) as get:
        status, _ = await get(f"/_page/files{path}")
    assert status in {400, 404}


async def test_text_of_others_is_text_of_json(tmp_path):
    """In every field, whatever it looks like."""
    path = tmp_path / "run.db"
    async with open_journal(path, create=True) as journal:
        await journal.add([new_row(text, prompt=text, model=text, size=text) for text in HOSTILE])
        async with page_of(path) as get:
            _, page = await get(state="new")
    assert [item["key"] for item in page["items"]] == HOSTILE[::-1]
    assert all(item["prompt"] == item["model"] == item["size"] == item["key"] for item in page["items"])


async def test_journal_that_cannot_be_read_is_an_error_that_may_pass(tmp_path):
    path = tmp_path / "run.db"
    async with page_of(path) as get:
        status, body = await get()
        assert (status, "there is no file" in body["error"]["message"]) == (503, True)
        async with open_journal(path, create=True) as journal:
            await journal.add([new_row("a")])
        assert (await get(state="new"))[0] == 200


def row(key="a", state=State.DOUBTFUL, **facts):
    return JournalRow(number=0, key=key, state=state, **{"request": b"{}", **facts})


@pytest.mark.parametrize("request_", [b"{}", b"[1]", b"{", b"", b'{"prompt":{"a":1},"model":7}'])
def test_row_with_an_odd_request_is_a_picture(request_):
    picture = picture_of(row(request=request_, task="?"), "run.db")
    assert (picture["prompt"], picture["model"], picture["task_id"]) == (None, None, picture["task_id"])


@pytest.mark.parametrize("key", HOSTILE)
def test_advice_is_a_command_for_a_shell(key):
    """It names this row, whatever its key is, and nothing else."""
    for line in advice_for(row(key), "my run.db"):
        words = shlex.split(line[line.index("lemon-async") :])
        assert words[:4] == ["lemon-async", "batch", "resolve", "my run.db"]
        assert words[-1] == key
    (retry,) = advice_for(row(key, State.DEAD), "run.db")
    assert shlex.split(retry[retry.index("lemon-async") :])[2] == "retry"
    assert not advice_for(row(key, State.DONE), "run.db")
