"""The programs in `tests/recipes` work, over real sockets and against the emulator."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from lemon_async.emulator import Drip, Emulator, Fail, Latency, Status, Vanish
from lemon_async.errors import SessionError

RECIPES = Path(__file__).with_name("recipes")


@pytest.fixture
async def service(monkeypatch):
    """An emulator whose jobs take a tenth of a second; the environment variables point to it."""
    async with Emulator(speed=600, durations=60.0) as running:
        monkeypatch.setenv("LEMONDATA_BASE_URL", running.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", running.api_key)
        yield running


@pytest.fixture
def recipe(service, monkeypatch, tmp_path):
    """Run a recipe as a module, with some of its constants replaced, and return its names."""
    monkeypatch.chdir(tmp_path)

    def load(name, **replaced):
        code = (RECIPES / f"{name}.py").read_text(encoding="utf-8")
        for old, new in replaced.items():
            assert old in code
            code = code.replace(old, new)
        names = {"__name__": "recipe"}
        exec(compile(code, name, "exec"), names)
        return names

    return load


async def until(condition):
    """Wait until a condition holds."""
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


# with_fastapi


async def test_fastapi_reports_the_progress_and_streams_the_picture(recipe, service):
    """A picture is ordered, followed and fetched, and bought once; the session ends with the application."""
    app = recipe("with_fastapi")["app"]
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
    with pytest.raises(SessionError, match="closed"):
        await app.state.lemon.generate("another cat")


async def test_fastapi_reports_what_is_wrong(recipe, service):
    """Invalid requests, refusals of the service and unknown pictures have a status each."""
    service.fault("submit", Status(402))
    async with run_fastapi(recipe("with_fastapi")["app"]) as browser:
        async with browser.post("/pictures", params={"prompt": ""}) as answer:
            assert (answer.status, "prompt" in (await answer.json())["detail"]) == (422, True)
        async with browser.post("/pictures", params={"prompt": "a cat"}) as answer:
            assert (answer.status, "insufficient_balance" in (await answer.json())["detail"]) == (502, True)
        for path in ("/pictures/none", "/pictures/none/progress"):
            async with browser.get(path) as answer:
                assert answer.status == 404
    assert not service.ledger.sold


async def test_fastapi_separates_bad_requests_from_failures(recipe, service):
    """A request that the service rejects is the browser's fault (422); a job that fails is not (502)."""
    service.fault("submit", Status(400), prompt="odd")
    service.fault("submit", Fail("no boats today"), prompt="boat")
    async with run_fastapi(recipe("with_fastapi")["app"]) as browser:
        async with browser.post("/pictures", params={"prompt": "odd"}) as answer:
            assert answer.status == 422
        async with browser.get(await order(browser, "boat")) as answer:
            assert (answer.status, "no boats today" in (await answer.json())["detail"]) == (502, True)


async def test_fastapi_reports_that_a_picture_cannot_be_fetched(recipe, service):
    """A download that fails before its first byte has a status instead of a broken body; the next one works."""
    app = recipe("with_fastapi")["app"]
    async with run_fastapi(app) as browser:
        address = await order(browser)
        service.fault("cdn", Status(404))
        async with browser.get(address) as answer:
            assert (answer.status, "could not fetch" in (await answer.json())["detail"]) == (502, True)
        service.clear_faults()
        async with browser.get(address) as answer:
            assert (await answer.read()).startswith(b"RIFF")
    assert service.ledger.sold == {"a cat": 1}


async def test_fastapi_reports_a_lost_job_to_the_page(recipe, service):
    """The stream of events ends with a final status, whatever the outcome."""
    service.fault("submit", Vanish())
    async with run_fastapi(recipe("with_fastapi")["app"]) as browser:
        address = await order(browser)
        async with browser.get(f"{address}/progress") as answer:
            events = [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]
        assert (events[-1]["status"], "is lost" in events[-1]["error"]) == ("failed", True)
        async with browser.get(address) as answer:
            assert answer.status == 502


async def test_fastapi_browser_that_leaves_ends_the_progress_and_not_the_job(recipe, service):
    """The watching stops when a page is closed; its picture is made anyway, and can be fetched."""
    names = recipe("with_fastapi")
    service.fault("poll", Status(502, body="html"))  # so that the job stays pending
    async with run_fastapi(names["app"]) as browser:
        address = await order(browser)
        (task,) = names["jobs"].values()
        async with browser.get(f"{address}/progress") as answer:
            assert b"pending" in await answer.content.readline()
        await until(lambda: not task._waiters)
        assert not task.done()
        service.clear_faults()
        async with browser.get(address) as answer:
            assert (await answer.read()).startswith(b"RIFF")
    assert service.ledger.sold == {"a cat": 1}


async def test_fastapi_browser_that_leaves_ends_the_download(recipe, service):
    """A download stops when its browser disconnects; the next browser gets the picture."""
    app = recipe("with_fastapi")["app"]
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


# with_aiohttp


async def test_aiohttp_serves_the_picture_from_its_folder(recipe, service, tmp_path):
    """A picture is fetched from the service once, and served with its type and length any number of times."""
    async with run_aiohttp(recipe("with_aiohttp")["app"]) as browser:
        address = await order(browser)
        for _ in range(2):
            async with browser.get(address) as answer:
                assert (answer.status, answer.content_type) == (200, "image/png")
                assert answer.content_length == len(await answer.read())
    assert [path.suffix for path in (tmp_path / "pictures").iterdir()] == [".png"]
    assert service.ledger.sold == {"a cat": 1}
    assert len([seen for seen in service.requests if seen.route == "cdn"]) == 1


async def test_aiohttp_asks_a_browser_to_retry_later(recipe, service):
    """A request before the end of the job gets a `Retry-After`, and costs nothing."""
    async with run_aiohttp(recipe("with_aiohttp", **{"timeout=20": "timeout=0.01"})["app"]) as browser:
        service.fault("poll", Status(502, body="html"))  # so that the job stays pending
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


async def test_aiohttp_reports_what_is_wrong(recipe, service):
    """Invalid requests, refusals of the service and unknown pictures have a status each."""
    service.fault("submit", Status(400), prompt="odd")
    service.fault("submit", Status(402), prompt="dear")
    async with run_aiohttp(recipe("with_aiohttp")["app"]) as browser:
        async with browser.post("/pictures") as answer:
            assert (answer.status, "prompt" in await answer.text()) == (422, True)
        async with browser.post("/pictures", params={"prompt": "odd"}) as answer:
            assert answer.status == 422
        async with browser.post("/pictures", params={"prompt": "dear"}) as answer:
            assert (answer.status, "insufficient_balance" in await answer.text()) == (502, True)
        async with browser.get("/pictures/none") as answer:
            assert answer.status == 404
    assert not service.ledger.sold


async def test_aiohttp_reports_why_there_is_no_picture(recipe, service):
    """Failed jobs and failed downloads are reported; a download can be retried."""
    service.fault("submit", Fail("no boats today"), prompt="boat")
    service.fault("cdn", Status(404))
    async with run_aiohttp(recipe("with_aiohttp")["app"]) as browser:
        async with browser.get(await order(browser, "boat")) as answer:
            assert (answer.status, "no boats today" in await answer.text()) == (502, True)
        address = await order(browser)
        async with browser.get(address) as answer:
            assert (answer.status, "could not fetch" in await answer.text()) == (502, True)
        service.clear_faults()
        async with browser.get(address) as answer:
            assert answer.status == 200
    assert service.ledger.sold == {"boat": 1, "a cat": 1}


async def test_aiohttp_browser_that_leaves_does_not_end_its_order(recipe, service):
    """A submit whose browser disconnects is completed, so its outcome is known."""
    names = recipe("with_aiohttp")
    service.fault("submit", Latency(100))
    async with run_aiohttp(names["app"]) as browser:
        request = asyncio.create_task(order(browser))
        await until(lambda: service.requests)
        request.cancel()
        lemon, jobs = names["app"][names["LEMON"]], names["app"][names["JOBS"]]
        await until(lambda: jobs)
        assert not lemon.unknown_submissions
    assert service.ledger.sold == {"a cat": 1}
