"""README's recipes hold what they promise: they run as they stand there, behind real sockets."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from lemon_async import PollPolicy, SessionMisuse
from lemon_async.emulator import Drip, Emulator, Fail, Latency, Status, Vanish

README = (Path(__file__).parent.parent / "README.md").read_text()
RECIPES = dict(re.findall(r"^### ([^\n]+)\n(?:(?!^#).)*?^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
PROMPTS = [f"boat {number}" for number in range(6)]


@pytest.fixture
async def service(monkeypatch):
    """An emulator whose jobs take a tenth of a second, where the environment points to."""
    async with Emulator(speed=600, durations=60.0) as running:
        monkeypatch.setenv("LEMONDATA_BASE_URL", running.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", running.api_key)
        yield running


@pytest.fixture
def recipe(service, monkeypatch, tmp_path):
    """Run a recipe's code as that of a module, with the pace of tests, and return its names."""
    monkeypatch.chdir(tmp_path)

    def load(title, **replaced):
        code = re.sub(r"with LemonSession\(", "with LemonSession(polling=QUICK, ", RECIPES[title])
        for old, new in {"requests_per_minute=1000": "requests_per_minute=60_000", **replaced}.items():
            code = code.replace(old, new)
        names = {"__name__": "recipe", "QUICK": PollPolicy(min_gap_s=0.01, max_gap_s=0.05, lost_after_s=0.02)}
        exec(compile(code, title, "exec"), names)
        return names

    return load


async def until(condition):
    """Wait for what other coroutines bring about."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def run_fastapi(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, http="h11", ws="none"))
    running = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or running.done())
        port = server.servers[0].sockets[0].getsockname()[1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
            yield browser
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def run_aiohttp(app):
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    try:
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
            yield browser
    finally:
        await runner.cleanup()


async def order(browser, prompt="a cat"):
    async with browser.post("/pictures", params={"prompt": prompt}) as answer:
        assert answer.status in {200, 202}
        return answer.headers["Location"] if "Location" in answer.headers else f"/pictures/{await answer.json()}"


# FastAPI


async def test_fastapi_tells_the_progress_and_streams_the_picture(recipe, service):
    """A browser orders, watches and gets its picture, which is bought once; the session ends with the application."""
    app = recipe("FastAPI")["app"]
    async with run_fastapi(app) as browser:
        address = await order(browser)
        async with browser.get(f"{address}/progress") as answer:
            assert answer.content_type == "text/event-stream"
            events = [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]
        async with browser.get(address) as answer:
            assert (answer.status, answer.content_type) == (200, "image/webp")
            content = await answer.read()
    assert (events[0]["status"], events[-1]["status"]) == ("pending", "completed")
    assert (content[:4], content[8:12]) == (b"RIFF", b"WEBP")
    assert int.from_bytes(content[4:8], "little") + 8 == len(content)
    assert service.ledger.sold == {"a cat": 1}
    with pytest.raises(SessionMisuse, match="closed"):
        await app.state.lemon.generate("another cat")


async def test_fastapi_says_what_is_wrong(recipe, service):
    """What cannot work, what the service refuses, and a picture that nobody ordered have their statuses."""
    service.fault("submit", Status(402))
    async with run_fastapi(recipe("FastAPI")["app"]) as browser:
        async with browser.post("/pictures", params={"prompt": ""}) as answer:
            assert (answer.status, "prompt" in (await answer.json())["detail"]) == (422, True)
        async with browser.post("/pictures", params={"prompt": "a cat"}) as answer:
            assert (answer.status, "insufficient_balance" in (await answer.json())["detail"]) == (502, True)
        for path in ("/pictures/none", "/pictures/none/progress"):
            async with browser.get(path) as answer:
                assert answer.status == 404
    assert not service.ledger.sold


async def test_fastapi_tells_the_page_that_a_job_is_lost(recipe, service):
    """A page that hears of the end can stop listening, whatever the end is."""
    service.fault("submit", Vanish())
    async with run_fastapi(recipe("FastAPI")["app"]) as browser:
        address = await order(browser)
        async with browser.get(f"{address}/progress") as answer:
            events = [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]
        assert (events[-1]["status"], "is lost" in events[-1]["error"]) == ("failed", True)
        async with browser.get(address) as answer:
            assert answer.status == 502


async def test_fastapi_browser_that_leaves_ends_the_progress_and_not_the_job(recipe, service):
    """Nothing watches for a page that was closed; its picture is made all the same, and can be fetched."""
    names = recipe("FastAPI")
    service.fault("poll", Status(502, body="html"))  # so that nothing is heard of the job yet
    async with run_fastapi(names["app"]) as browser:
        address = await order(browser)
        (task,) = names["jobs"].values()
        async with browser.get(f"{address}/progress") as answer:
            assert b"pending" in await answer.content.readline()
        await until(lambda: not task._waiters)
        assert not task.done
        service.clear_faults()
        async with browser.get(address) as answer:
            assert (await answer.read()).startswith(b"RIFF")
    assert service.ledger.sold == {"a cat": 1}


async def test_fastapi_browser_that_leaves_ends_the_download(recipe, service):
    """A picture that nobody wants any more is not fetched to its end; the next one who wants it gets it."""
    app = recipe("FastAPI")["app"]
    service.fault("cdn", Drip(1000), times=1)
    async with run_fastapi(app) as browser:
        address = await order(browser)
        async with browser.get(address) as answer:
            assert await answer.content.read(4) == b"RIFF"
            assert "1 downloads" in app.state.lemon._repr_html_()
        await until(lambda: "0 downloads" in app.state.lemon._repr_html_())
        async with browser.get(address) as answer:
            assert len(await answer.read()) > 4000
    assert service.ledger.sold == {"a cat": 1}


# aiohttp.web


async def test_aiohttp_serves_the_picture_from_its_folder(recipe, service, tmp_path):
    """A picture is fetched from the service once, and served with its type and length as often as somebody asks."""
    async with run_aiohttp(recipe("aiohttp.web")["app"]) as browser:
        address = await order(browser)
        for _ in range(2):
            async with browser.get(address) as answer:
                assert (answer.status, answer.content_type) == (200, "image/png")
                assert answer.content_length == len(await answer.read())
    assert [path.suffix for path in (tmp_path / "pictures").iterdir()] == [".png"]
    assert service.ledger.sold == {"a cat": 1}
    assert len([seen for seen in service.requests if seen.route == "cdn"]) == 1


async def test_aiohttp_asks_a_browser_to_come_again(recipe, service):
    """Who asks too early is told when to ask again; asking costs nothing."""
    async with run_aiohttp(recipe("aiohttp.web", **{"timeout_s=20": "timeout_s=0.01"})["app"]) as browser:
        service.fault("poll", Status(502, body="html"))  # so that nothing is heard of the job yet
        address = await order(browser)
        async with browser.get(address) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (202, "5")
        service.clear_faults()
        async with asyncio.timeout(10):
            while answer.status == 202:
                async with browser.get(address) as answer:
                    pass
        assert answer.status == 200
    assert service.ledger.sold == {"a cat": 1}


async def test_aiohttp_says_what_is_wrong(recipe, service):
    """A request that cannot work and a picture that nobody ordered have their statuses."""
    async with run_aiohttp(recipe("aiohttp.web")["app"]) as browser:
        async with browser.post("/pictures") as answer:
            assert (answer.status, "prompt" in await answer.text()) == (400, True)
        async with browser.get("/pictures/none") as answer:
            assert answer.status == 404
    assert not service.ledger.sold


async def test_aiohttp_browser_that_leaves_does_not_end_its_order(recipe, service):
    """An order whose browser is gone before the answer is known all the same: nothing is in doubt."""
    names = recipe("aiohttp.web")
    service.fault("submit", Latency(100))
    async with run_aiohttp(names["app"]) as browser:
        request = asyncio.create_task(order(browser))
        await until(lambda: service.requests)
        request.cancel()
        lemon, jobs = names["app"][names["LEMON"]], names["app"][names["JOBS"]]
        await until(lambda: jobs)
        assert not lemon.unknown_submissions
    assert service.ledger.sold == {"a cat": 1}


# A file of prompts


@pytest.fixture
def batch(recipe, tmp_path):
    """Run the batch over six boats, and return what it left: pictures by line, what is open, and what failed."""
    run = recipe("Thousands of prompts from a file")["batch"]
    source, folder = tmp_path / "prompts.txt", tmp_path / "out"
    source.write_text("".join(f"{prompt}\n" for prompt in PROMPTS))

    def left():
        pictures = sorted(path.name for path in folder.glob("*.png"))
        return pictures, *(json.loads((folder / f"{name}.json").read_text()) for name in ("sold", "failed"))

    async def go():
        await run(source, folder)
        assert "<html" in (folder / "sheet.html").read_text()
        return left()

    go.left = left
    return go


async def test_batch_that_runs_again_orders_only_what_was_not_sold(batch, service):
    """Pictures are kept, tokens picked up, refusals and failures ordered anew; what is in doubt is left to the user."""
    service.fault("submit", Fail("no boats today"), prompt="boat 1")
    service.fault("submit", Status(502, body="html"), prompt="boat 2", bill=True)
    service.fault("submit", Status(402), prompt="boat 3")
    service.fault("cdn", Status(404), prompt="boat 4")
    pictures, sold, failed = await batch()
    assert (len(pictures), len(sold), sold["boat 2"]) == (2, 2, None)
    assert failed.keys() == {"boat 1", "boat 2", "boat 3"}
    service.clear_faults()
    bought = service.ledger.sold
    pictures, sold, failed = await batch()
    assert pictures == ["00001.png", "00002.png", "00004.png", "00005.png", "00006.png"]
    assert (sold, failed) == ({"boat 2": None}, {})
    assert service.ledger.sold - bought == {"boat 1": 1, "boat 3": 1}


async def test_batch_that_is_interrupted_goes_on(batch, service):
    """Nothing is bought twice when a run is interrupted while jobs are out, whatever each of them was just doing."""
    for latency_ms in (20, 60):
        service.fault("poll", Latency(latency_ms), probability=0.5)
        run = asyncio.create_task(batch())
        await until(lambda: service.ledger.sold)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        pictures, sold, _ = batch.left()
        assert len(pictures) + len(sold) == service.ledger.sold.total()
    pictures, sold, failed = await batch()
    assert (len(pictures), sold, failed) == (6, {}, {})
    assert service.ledger.sold == dict.fromkeys(PROMPTS, 1)
