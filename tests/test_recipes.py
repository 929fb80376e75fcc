"""The programs in `tests/recipes` work, over real sockets and against the emulator."""

import asyncio
import base64
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from lemon_async.emulator import Blackhole, Emulator, Fail, Latency, Reset, Result, Status, Vanish
from lemon_async.errors import SessionError
from servers import gateway_to
from web_workers import WebWorkers

RECIPES = Path(__file__).with_name("recipes")


@pytest.fixture
async def service(monkeypatch):
    """An emulator whose jobs take a tenth of a second; the environment variables point to it."""
    async with Emulator(speed=600, durations=60.0) as running:
        monkeypatch.setenv("LEMONDATA_BASE_URL", running.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", running.api_key)
        yield running


@pytest.fixture
async def gateway(service, monkeypatch):
    """What the environment variables point to instead, so that a test decides when the service answers."""
    async with gateway_to(service.base_url) as running:
        monkeypatch.setenv("LEMONDATA_BASE_URL", running.base_url)
        yield running


def read_recipe(name, replaced):
    code = (RECIPES / f"{name}.py").read_text(encoding="utf-8")
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    return code


@pytest.fixture
def recipe(service, monkeypatch, tmp_path):
    """Run a recipe as a module, with some of its constants replaced, and return its names."""
    monkeypatch.chdir(tmp_path)

    def load(name, **replaced):
        names = {"__name__": "recipe"}
        exec(compile(read_recipe(name, replaced), name, "exec"), names)
        return names

    return load


async def until(condition):
    """Wait until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def count(service, route):
    """Return the number of requests to a route of the service."""
    return sum(request.route == route for request in service.requests)


@asynccontextmanager
async def run_fastapi(app, **options):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, http="h11", ws="none", **options))
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


# with_fastapi

QUICK = {"sleep(5)": "sleep(0.05)", "sleep(0.5)": "sleep(0.02)"}


def new_address():
    return f"/pictures/{uuid4()}"


def name_of(address):
    return address.rpartition("/")[2]


async def put(browser, address, prompt="a cat"):
    """Order a picture, and return the status and content of the response."""
    async with asyncio.timeout(60), browser.put(address, params={"prompt": prompt}) as answer:
        return answer.status, await answer.json()


async def follow(browser, address):
    """Return the events of an order until it ends."""
    async with asyncio.timeout(60), browser.get(f"{address}/progress") as answer:
        assert answer.content_type == "text/event-stream"
        return [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]


async def test_fastapi_reports_the_progress_and_serves_the_picture(recipe, service, tmp_path):
    """A picture is ordered, followed and fetched; a second order of that name buys nothing."""
    app = recipe("with_fastapi", **QUICK)["app"]
    address = new_address()
    service.fault("poll", Status(502, body="html"))  # so that the task stays pending
    async with run_fastapi(app) as browser:
        status, job = await put(browser, address)
        assert (status, job["state"]) == (202, "pending")
        async with asyncio.timeout(60), browser.get(f"{address}/progress") as answer:
            assert json.loads((await answer.content.readline())[6:])["state"] == "pending"
        service.clear_faults()
        events = await follow(browser, address)
        assert await put(browser, address) == (202, events[-1])
        async with browser.get(address) as answer:
            assert (answer.status, answer.content_type) == (200, "image/webp")
            content = await answer.read()
    assert events[-1]["state"] == "completed"
    assert all(event["state"] == "pending" for event in events[:-1])
    assert (content[:4], content[8:12]) == (b"RIFF", b"WEBP")
    assert int.from_bytes(content[4:8], "little") + 8 == len(content)
    assert service.ledger.sold == {"a cat": 1}
    assert not [*tmp_path.rglob("*.lock")]
    with pytest.raises(SessionError, match="closed"):
        await app.state.lemon.generate("another cat")


async def test_fastapi_reports_what_is_wrong(recipe, service):
    """Invalid requests are the browser's fault (422); refusals of the service and failed tasks are not (502)."""
    service.fault("submit", Status(402), prompt="dear")
    service.fault("submit", Status(400), prompt="odd")
    service.fault("submit", Fail("no boats today"), prompt="boat")
    service.fault("submit", Vanish(), prompt="ghost")
    refusals = [("", 422, "prompt"), ("odd", 422, "400"), ("dear", 502, "insufficient_balance")]
    failures = [("boat", "no boats today"), ("ghost", "is lost")]
    async with run_fastapi(recipe("with_fastapi", **QUICK)["app"]) as browser:
        for prompt, status, detail in refusals:
            answer = await put(browser, address := new_address(), prompt)
            assert (answer[0], detail in answer[1]["detail"]) == (status, True), prompt
            (event,) = await follow(browser, address)
            assert (event["state"], detail in event["error"]) == ("failed", True), prompt
        for prompt, detail in failures:
            await put(browser, address := new_address(), prompt)
            event = (await follow(browser, address))[-1]
            assert (event["state"], detail in event["error"]) == ("failed", True), prompt
            async with browser.get(address) as answer:
                assert (answer.status, detail in (await answer.json())["detail"]) == (502, True), prompt
        for path, status in ((new_address(), 404), (f"{new_address()}/progress", 404), ("/pictures/none", 422)):
            async with browser.get(path) as answer:
                assert answer.status == status
    assert service.ledger.sold == {"boat": 1, "ghost": 1}


async def test_fastapi_saves_a_picture_as_soon_as_it_can(recipe, service):
    """A picture that cannot be fetched stays pending, and is tried again."""
    service.fault("cdn", Status(404))
    async with run_fastapi(recipe("with_fastapi", **QUICK)["app"]) as browser:
        await put(browser, address := new_address())
        await until(lambda: count(service, "cdn") > 1)
        async with browser.get(address) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (202, "5")
        service.clear_faults()
        assert (await follow(browser, address))[-1]["state"] == "completed"
    assert service.ledger.sold == {"a cat": 1}


async def test_fastapi_shows_that_an_outcome_is_unknown(recipe, service):
    """An order whose response is lost is shown as unknown, and not bought again under its name."""
    service.fault("submit", Reset("response_head"))
    async with run_fastapi(recipe("with_fastapi", **QUICK)["app"]) as browser:
        status, answer = await put(browser, address := new_address())
        assert (status, "outcome is unknown" in answer["detail"]) == (502, True)
        service.clear_faults()
        assert (await put(browser, address))[1]["state"] == "unknown"
        (event,) = await follow(browser, address)
        assert (event["state"], "outcome is unknown" in event["error"]) == ("unknown", True)
    assert service.ledger.sold == {"a cat": 1}


async def test_fastapi_completes_the_order_of_a_browser_that_leaves(recipe, service, gateway):
    """A browser may leave while its order is sent or followed: the picture is bought once, saved and served."""
    gateway.may_answer.clear()
    async with run_fastapi(recipe("with_fastapi", **QUICK)["app"]) as browser:
        request = asyncio.create_task(put(browser, address := new_address()))
        await until(lambda: service.requests)
        request.cancel()
        async with browser.get(f"{address}/progress") as answer:
            assert b"pending" in await answer.content.readline()
        gateway.may_answer.set()
        assert (await follow(browser, address))[-1]["state"] == "completed"
    assert service.ledger.sold == {"a cat": 1}


async def test_fastapi_shutdown_waits_for_orders_and_not_for_tasks(recipe, service, gateway):
    """An order that is being sent at the shutdown gets its token; the next start saves the picture."""
    gateway.may_answer.clear()
    service.fault("poll", Status(502, body="html"))  # so that the task stays pending
    address = new_address()
    async with run_fastapi(recipe("with_fastapi", **QUICK)["app"], timeout_graceful_shutdown=0.05) as browser:
        request = asyncio.create_task(put(browser, address))
        request.add_done_callback(lambda _: gateway.may_answer.set())  # when the browser has lost its connection
        await until(lambda: service.requests)
    with pytest.raises(aiohttp.ClientError):
        await request
    service.clear_faults()
    async with run_fastapi(recipe("with_fastapi", **QUICK)["app"]) as browser:
        assert (await follow(browser, address))[-1]["state"] == "completed"
    assert service.ledger.sold == {"a cat": 1}


@pytest.mark.long
async def test_fastapi_with_four_workers(service, monkeypatch, tmp_path, png):
    """Any worker answers for any picture; those of a killed worker or an ended server are resumed once, not bought."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pages.py").write_text(read_recipe("with_fastapi", QUICK))
    pictures = Result([{"b64_json": base64.b64encode(png).decode()}])  # drawing them would take seconds
    service.fault("submit", pictures, prompt="^/pictures")
    service.fault("submit", Blackhole(), prompt="stuck")
    service.fault("poll", Status(502, body="html"))  # so that the tasks stay pending
    async with WebWorkers("pages:app", 4, table="pictures/jobs.db") as server, server.browser() as browser:
        workers, ordered = server.pids, {}
        for worker in workers:
            with server.only(worker):
                ordered[worker] = [new_address() for _ in range(5)]
                for address in ordered[worker]:
                    assert (await put(browser, address, address))[0] == 202
        for owner, other in zip(workers, workers[1:] + workers[:1], strict=True):
            with server.only(other):
                for address in ordered[owner]:
                    async with browser.get(f"{address}/progress") as answer:
                        assert b'"pending"' in await answer.content.readline()

        victim, stuck = workers[0], new_address()
        with server.only(victim):
            request = asyncio.create_task(put(browser, stuck, "stuck"))
            await until(lambda: count(service, "submit") == 21)
            os.kill(victim, signal.SIGKILL)
        assert (await request)[0] == 202  # because aiohttp sends a PUT again when its connection breaks
        event = (await follow(browser, stuck))[-1]
        assert (event["state"], "may have been sold" in event["error"]) == ("unknown", True)
        assert (await put(browser, stuck, "stuck"))[1] == event
        await server.until(lambda: server.find("is resumed") >= 5)
        assert [server.find(f"{name_of(address)} is resumed") for address in ordered[victim]] == [1] * 5
        assert server.find("is resumed") == 5
        await server.terminate()
    assert not [*tmp_path.rglob("*.lock")]

    service.clear_faults()
    async with WebWorkers("pages:app", 2, table="pictures/jobs.db") as server, server.browser() as browser:
        addresses = [address for several in ordered.values() for address in several]
        for address in addresses:
            assert (await follow(browser, address))[-1]["state"] == "completed"
        assert [server.find(f"{name_of(address)} is resumed") for address in addresses] == [1] * 20
        await server.terminate()
    assert service.ledger.sold == {"stuck": 1} | dict.fromkeys(addresses, 1)
    assert {path.stem for path in (tmp_path / "pictures").glob("*.png")} == {*map(name_of, addresses)}


# with_aiohttp


async def order(browser, prompt="a cat"):
    async with browser.post("/pictures", params={"prompt": prompt}) as answer:
        assert answer.status == 202
        return answer.headers["Location"]


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
    assert count(service, "cdn") == 1


async def test_aiohttp_asks_a_browser_to_retry_later(recipe, service):
    """A request before the end of the job gets a `Retry-After`, and costs nothing."""
    async with run_aiohttp(recipe("with_aiohttp", **{"timeout=20": "timeout=0.01"})["app"]) as browser:
        service.fault("poll", Status(502, body="html"))  # so that the job stays pending
        address = await order(browser)
        async with browser.get(address) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (202, "5")
        service.clear_faults()
        async with asyncio.timeout(60):
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
