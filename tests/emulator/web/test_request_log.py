"""The request log and the ledger, page by page."""

import pytest

from lemon_async.emulator import Fail, Reset
from lemon_async.emulator.web import request_log


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(request_log, "PAGE", 2)
    monkeypatch.setattr(request_log, "_AT_ONCE", 3)


async def test_requests_are_listed_newest_first(emu, page, client, small_pages):
    task = await client.submit("a cat", model="flux-pro")
    await client.poll(task)
    await client.ask("GET", "/v1/models", key="wrong")
    await client.ask("GET", "/nothing")
    await client.submit("a dog", model="none")

    async def numbers(**query):
        found = await page.get("/_page/requests", **query)
        return [item["number"] for item in found["items"]], found["total"], found["next"]

    assert await numbers() == ([5, 4], 5, 4)
    assert await numbers(before="4") == ([3, 2], 5, 2)
    assert await numbers(before="2") == ([1], 5, None)
    assert await numbers(route="submit") == ([5, 1], 2, None)
    assert await numbers(status="4") == ([5, 4], 3, 4)
    assert await numbers(status="401") == ([3], 1, None)
    assert await numbers(route="poll", status="5") == ([], 0, None)
    last, poll = (await page.get("/_page/requests"))["items"][0], (await page.get("/_page/requests", route="poll"))
    assert {name: last[name] for name in ("route", "method", "path", "status", "model", "prompt", "is_replayable")} == {
        "route": "submit", "method": "POST", "path": "/v1/images/generations", "status": 400, "model": "none",
        "prompt": "a dog", "is_replayable": True,
    }  # fmt: skip
    assert [(item["prompt"], item["is_replayable"]) for item in poll["items"]] == [("a cat", True)]
    assert abs(last["at"] - emu._clock.unix()) < 60


async def test_a_request_that_never_arrived_cannot_be_replayed(emu, page, wire, submit_bytes):
    emu.fault("submit", Reset("request_body"))
    await wire(submit_bytes())
    (item,) = (await page.get("/_page/requests"))["items"]
    assert (item["status"], item["is_replayable"], item["prompt"]) == (None, False, None)
    found = await page.get("/_page/requests/1")
    assert (found["curl"], found["python"], found["body"]) == (None, None, None)


@pytest.mark.parametrize("number", ["0", "2", "x", "-1", "99999999999"])
async def test_only_requests_in_the_log_have_details(page, client, number):
    await client.submit()
    assert (await page.ask("GET", f"/_page/requests/{number}")).status == 404
    assert (await page.ask("GET", "/_page/requests/1")).status == 200


async def test_the_ledger_is_listed_with_its_sums(emu, page, client, small_pages):
    emu.fault("submit", Fail(), prompt="dog")
    for prompt, model in (("a cat", "flux-pro"), ("a dog", "flux-pro"), ("a fox", "midjourney")):
        await client.submit(prompt, model=model)

    async def read(**query):
        found = await page.get("/_page/ledger", **query)
        return [(item["number"], item["kind"], item["job"]) for item in found["items"]], found["total"], found["next"]

    assert await read() == ([(6, "settle", "a fox"), (5, "release", "a dog")], 6, 5)
    assert (await read(before="5"))[0] == [(4, "settle", "a cat"), (3, "reserve", "a fox")]
    assert await read(before="3") == ([(2, "reserve", "a dog"), (1, "reserve", "a cat")], 6, None)
    assert await read(kind="reserve", before="3") == ([(2, "reserve", "a dog"), (1, "reserve", "a cat")], 3, None)
    assert await read(kind="settle", model="midjourney") == ([(6, "settle", "a fox")], 1, None)
    assert await read(kind="release", model="none") == ([], 0, None)
    found = await page.get("/_page/ledger", model="flux-pro")
    assert found["sums"]["reserve"] == {"count": 2, "amount_usd": 0.1}
    assert set(found["items"][0]) == {"number", "at", "kind", "job", "task_id", "model", "amount_usd"}
