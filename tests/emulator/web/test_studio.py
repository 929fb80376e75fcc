"""The page of an emulator."""

import asyncio
import io
import json
import re

import pytest
from PIL import Image

from lemon_async.emulator import Emulator, Fail, Result, Script, Status, Stuck
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.web import studio
from lemon_async.emulator.web.studio import thumbnail_of

READS = ("/_page/pictures", "/_page/requests", "/_page/ledger", "/_page/faults")


def size_of(file):
    return Image.open(io.BytesIO(file)).size


# The page beside the API


async def test_the_page_is_served_only_if_asked_for(client_of):
    async with Emulator() as emu:
        for path in ("/", *READS):
            answer = await client_of(emu).ask("GET", path)
            assert (answer.status, answer.json["error"]["message"]) == (404, f"Unknown route: GET {path}")


async def test_the_page_holds_the_key_and_its_token(emu, page):
    answer = await page.ask("GET", "/")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    meta = dict(re.findall(r'<meta name="([a-z-]+)" content="([^"]*)">', answer.raw.decode()))
    assert meta["api-key"] == emu.api_key
    assert meta["page-token"]
    for source in re.findall(r'(?:src|href)="(/_page/[^"]+)"', answer.raw.decode()):
        assert (await page.ask("GET", source)).status == 200


async def test_requests_of_the_page_meet_no_fault_limit_or_log(page_of, client_of):
    """The API does, and is not charged for them."""
    async with Emulator(studio=True, requests_per_minute=1) as emu:
        for route in ("models", "submit"):
            emu.fault(route, Status(500))
        page = page_of(emu)
        for path in READS * 3:
            await page.get(path)
        assert emu.requests == []
        assert (await client_of(emu).ask("GET", "/v1/models")).status == 500


async def test_a_page_is_not_disconnected_as_a_client_without_a_key(emu, page, until):
    connections = emu._handler.connections
    await page.get("/_page/faults")
    assert (len(connections), connections.unauthenticated) == (1, 0)


async def test_foreign_hosts_and_origins_reach_nothing(emu, page):
    for path in ("/", *READS, "/_page/static/studio.js"):
        assert (await page.ask("GET", path, headers={"Host": "evil.example"})).status == 421
    token = emu._handler.pages.protection.token
    body = {"route": "poll", "actions": [{"type": "Stuck"}]}
    for headers in ({}, {"X-Page-Token": token}, {"X-Page-Token": token, "Origin": "null"}, {"Origin": emu.base_url}):
        assert (await page.ask("POST", "/_page/faults", json=body, headers=headers)).status == 403
    assert emu.faults == []


async def test_the_stream_ends_with_the_emulator(page_of, http):
    async with Emulator(studio=True) as emu:
        answer = await http.get(f"{emu.base_url}/_page/events")
        lines = [await answer.content.readline() for _ in range(4)]
        assert lines[:1] + lines[2:3] == [b": open\n", b"event: summary\n"]
        assert json.loads(lines[3].removeprefix(b"data: "))["sold"] == 0
        summaries = emu._handler.pages.summaries
    assert not summaries.is_running
    answer.close()


# Pictures


async def test_inline_jobs_tasks_and_edits_are_in_the_gallery(emu, page, client, picture):
    await client.submit("a cat", model="dall-e-3", user="me")
    await client.submit("a dog", model="flux-pro")
    await client.edit("a hat", picture((64, 32), "RGBA"), model="gpt-image-2", n=2)
    found = await page.get("/_page/pictures")
    assert (found["total"], found["next"]) == (3, None)
    hat, dog, cat = found["items"]
    assert [item["state"] for item in found["items"]] == ["completed"] * 3
    assert (cat["prompt"], cat["model"], cat["key"], cat["size"]) == ("a cat", "dall-e-3", "me", "1024x1024")
    assert (cat["task_id"], cat["cost_usd"], cat["progress"], cat["error"]) == (None, 0.04, None, None)
    assert dog["task_id"].startswith("ldtask_")
    assert (len(hat["images"]), hat["images"][1]["width"], hat["images"][1]["height"]) == (2, 64, 32)
    for item, edge in ((cat, 320), (dog, 320), (hat, 64)):
        image = item["images"][0]
        small, large = [await page.ask("GET", image[name]) for name in ("thumb", "full")]
        assert max(size_of(small.raw)) == edge
        assert size_of(large.raw) == (image["width"], image["height"])
        assert "immutable" in small.headers["Cache-Control"]
        assert large.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Fail("no <b>luck</b>"), {"state": "failed", "error": "no <b>luck</b>", "cost_usd": 0.0}),
        (Fail({"code": "x", "message": "words"}), {"state": "failed", "error": "words"}),
        (Fail(None), {"state": "failed", "error": "failed without a reason"}),
        (Stuck(), {"state": "processing", "error": None, "progress": None, "cost_usd": 0.05}),
        (Script(["weird", "completed"]), {"state": "weird"}),
        (Result([]), {"state": "completed", "images": []}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
async def test_what_faults_do_to_a_job_is_shown(emu, page, client, action, expected):
    emu.fault("submit", action)
    await client.submit(model="flux-pro")
    (item,) = (await page.get("/_page/pictures"))["items"]
    assert {name: item[name] for name in expected} == expected


async def test_a_pending_task_has_progress(page_of, client_of):
    async with Emulator(studio=True, durations=1000) as emu:
        await client_of(emu).submit(model="flux-pro")
        page = page_of(emu)
        (item,) = (await page.get("/_page/pictures"))["items"]
        assert item["state"] == "pending"
        assert 0 <= item["progress"] < 0.1
        assert item["images"] == []
        assert (await page.ask("GET", "/_page/thumbs/1/0")).status == 404
        assert (await page.summary())["counts"] == {"pending": 1}
        await emu.restart(keep_tasks=False)
        (item,) = (await page_of(emu).get("/_page/pictures"))["items"]
        assert (item["state"], item["error"]) == ("lost", "lost when the emulator was restarted")


async def test_pictures_are_filtered_and_paged(emu, page, client, monkeypatch):
    monkeypatch.setattr(studio, "PAGE", 2)
    emu.fault("submit", Fail(), prompt="Ärger")
    for prompt in ("one cat", "two ÄRGER", "three cats", "four Ärger", "five CATS"):
        await client.submit(prompt, model="flux-pro")
    await client.submit("six", model="dall-e-3")

    async def prompts(**query):
        found = await page.get("/_page/pictures", **query)
        return [item["prompt"].split()[0] for item in found["items"]], found["total"], found["next"]

    assert await prompts() == (["six", "five"], 6, 5)
    assert await prompts(before="5") == (["four", "three"], 6, 3)
    assert await prompts(before="3") == (["two", "one"], 6, None)
    assert await prompts(q=" Cat ") == (["five", "three"], 3, 3)
    assert await prompts(q="cat", before="3") == (["one"], 3, None)
    assert await prompts(q="ärger") == (["four", "two"], 2, None)
    assert await prompts(state="failed") == (["four"], 1, None)
    assert await prompts(model="dall-e-3") == (["six"], 1, None)
    for before in ("x", "-1", "1e3", "٣", "9" * 10):
        assert (await page.ask("GET", "/_page/pictures", params={"before": before})).status == 400


@pytest.mark.parametrize(
    "path", ["1/1", "2/0", "0/0", "-1/0", "x/0", "1/..", "../1", "..%2f1/0", "1/0/0", "9999999999/0"]
)
async def test_only_pictures_that_exist_are_served(page, client, path):
    await client.submit("a cat", model="dall-e-3")
    for folder in ("thumbs", "files"):
        assert (await page.ask("GET", f"/_page/{folder}/{path}")).status == 404


def test_thumbnails_are_small_drawings():
    assert thumbnail_of(Picture("p", 4096, 1024)) == Picture("p", 320, 80, format="jpeg", compression=80)
    assert thumbnail_of(Picture("p", 200, 100, is_transparent=True)).format == "png"


# What has changed


async def test_the_summary_agrees_with_the_ledger(page_of, client_of):
    async with Emulator(studio=True, durations=0, balance_usd=1.0, speed=5) as emu:
        client = client_of(emu)
        await client.submit("a cat", model="dall-e-3")
        emu.fault("submit", Fail(), Fail(), nth=[1])
        emu.fault("submit", Stuck())
        await client.submit("a dog", model="flux-pro")
        await client.submit("a fox", model="flux-new")
        summary = await page_of(emu).summary()
        assert (summary["sold"], summary["requests"], summary["faults"]) == (3, 3, 2)
        assert summary["counts"] == {"completed": 1, "failed": 1, "processing": 1}
        assert (summary["held_usd"], summary["balance_usd"]) == (0.09, 0.91)
        assert {"dall-e-3", "flux-new", "midjourney"} <= set(summary["models"])
        assert summary["speed"] == 5


async def test_the_version_changes_when_a_list_does(emu, page, client):
    versions = [(await page.summary())["version"] for _ in range(2)]
    assert versions[0] == versions[1]
    fault = emu.fault("models", Status(500))
    changes = (
        lambda: client.submit(model="dall-e-3"),
        lambda: client.ask("GET", "/v1/models"),
        lambda: asyncio.sleep(0, emu.faults.remove(fault)),
    )
    for change in changes:
        await change()
        versions.append((await page.summary())["version"])
        assert versions[-1] > versions[-2]


# Faults


async def test_faults_are_switched_on_and_off(emu, page, client):
    added = await page.change(
        "POST", "/_page/faults", {"route": "poll", "actions": [{"type": "Status", "status": 502}]}
    )
    assert added.status == 201
    emu.fault("submit", Status(500), times=1, prompt="cat")
    await client.submit()
    second, first = (await page.get("/_page/faults"))["items"]
    assert first == {**added.json, "hits": 0}
    assert second["match"] == {"times": 1, "prompt": "cat"}
    assert (second["route"], second["hits"]) == ("submit", 1)
    assert (await page.change("DELETE", f"/_page/faults/{first['id']}")).status == 200
    assert [fault.route for fault in emu.faults] == ["submit"]
    assert (await page.change("DELETE", f"/_page/faults/{first['id']}")).status == 404
    assert (await page.change("DELETE", "/_page/faults")).status == 200
    assert emu.faults == []


async def test_fault_that_was_listed_and_removed_is_a_change(emu, page):
    """A page that has seen a fault learns that it is gone, even if no summary was read in between."""
    before = (await page.get("/_page/pictures"))["version"]
    emu.fault("poll", Status(502))
    listed = (await page.get("/_page/faults"))["version"]
    emu.clear_faults()
    assert (await page.get("/_page/pictures"))["version"] not in {before, listed}


async def test_a_wrong_fault_is_refused_with_all_problems(emu, page):
    answer = await page.change("POST", "/_page/faults", {"route": "x", "actions": [{"type": "Cut"}], "times": 0})
    assert answer.status == 400
    assert answer.json["error"]["message"].count(";") == 2
    assert (await page.change("POST", "/_page/faults", ["x"] * 100_000)).status == 413
    assert emu.faults == []


async def test_faults_are_bounded(emu, page):
    emu.faults.extend([emu.fault("poll", Status(500))] * studio.MAX_FAULTS)
    body = {"route": "poll", "actions": [{"type": "Status", "status": 502}]}
    assert (await page.change("POST", "/_page/faults", body)).status == 409
