"""The spans of jobs are below the span of the code that asked for them, whatever runs the requests."""

import asyncio

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from lemon_async import LemonSession
from lemon_async.emulator import Emulator


@pytest.fixture
async def service():
    async with Emulator(speed=6000) as running:
        yield running


@pytest.fixture
async def session(otel, service):
    """A session with a handler; its poller runs for everybody."""
    async with LemonSession(service.api_key, base_url=service.base_url, on_event=otel.telemetry()) as lemon:
        yield lemon


async def test_gathered_jobs_are_below_their_callers(otel, session):
    """Polls and downloads are below their job, and in the trace of their caller."""

    async def make(name):
        with otel.tracer.start_as_current_span(name):
            images = await session.generate(name, model="flux-pro", size="256x256")
            await images[0].read()

    await asyncio.gather(*(make(name) for name in "abc"))
    callers = {span.name: span for span in otel.spans if len(span.name) == 1}
    for caller in callers.values():
        (job,) = otel.children(caller)
        names = [span.name for span in otel.children(job)]
        assert names[0] == "POST /v1/images/generations"
        assert {"GET /v1/tasks/{id}", "GET"} <= set(names)
    assert len({span.context.trace_id for span in otel.spans}) == 3


async def test_jobs_of_a_map_and_a_batch_are_below_the_block(otel, session, tmp_path):
    """Their workers run in tasks of their own."""
    with otel.tracer.start_as_current_span("map") as above_map:
        async with session.map(["a", "b"], model="flux-pro", size="256x256") as outcomes:
            async for _ in outcomes:
                pass
    rows = [{"prompt": "c"}, {"prompt": "d"}]
    with otel.tracer.start_as_current_span("batch") as above_batch:
        options = {"key": "prompt", "model": "dall-e-3", "save": str(tmp_path / "{key}")}
        async with session.batch(tmp_path / "run.db", rows, **options) as batch:
            async for _ in batch:
                pass
    for above in (above_map, above_batch):
        jobs = [span for span in otel.jobs if span.parent.span_id == above.context.span_id]
        assert len(jobs) == 2
        assert {span.context.trace_id for span in jobs} == {above.get_span_context().trace_id}


async def test_jobs_of_a_web_handler_are_below_its_request(otel, session):
    """Two users at a time do not see each other's."""

    async def picture(request):
        with otel.tracer.start_as_current_span(f"GET {request.path}"):
            task = await session.submit("a cat", model="flux-pro", size="256x256")
        await task  # the request may be over by then
        return web.Response(text=task.id)

    app = web.Application()
    app.router.add_get("/{user}", picture)
    async with TestServer(app) as server, ClientSession() as client:

        async def visit(user):
            async with client.get(server.make_url(f"/{user}")) as response:
                return await response.text()

        ids = dict(zip("ab", await asyncio.gather(*map(visit, "ab")), strict=True))
    handlers = {span.name[-1]: span for span in otel.spans if span.name in {"GET /a", "GET /b"}}
    for user, task_id in ids.items():
        (job,) = otel.children(handlers[user])
        assert job.attributes["gen_ai.response.id"] == task_id


async def test_what_a_session_leaves_open_ends_with_it(otel):
    """The span of the job says that its money is open; nothing stays in flight."""
    async with (
        Emulator(durations=1000.0) as service,
        LemonSession(service.api_key, base_url=service.base_url, on_event=otel.telemetry()) as lemon,
    ):
        await lemon.submit("a cat", model="flux-pro")
        assert otel.by("lemon_async.jobs.in_flight", "gen_ai.request.model") == {"flux-pro": 1}
    (job,) = otel.jobs
    assert job.attributes["lemon_async.money"] == "open"
    assert job.attributes["error.type"] == "SessionError"
    assert otel.by("lemon_async.jobs.in_flight") == {}


async def test_neither_key_nor_names_of_files_are_exported(otel, service, session, tmp_path):
    """Prompts, labels, paths, journals and queries of links: none of it."""
    rows = [{"name": "secret-row", "prompt": "secret prompt"}]
    save = str(tmp_path / "secret-folder" / "{key}")
    options = {"key": "name", "model": "flux-pro", "size": "256x256", "save": save}
    async with session.batch(tmp_path / "secret.db", rows, **options) as batch:
        async for _ in batch:
            pass
    images = await session.generate("another secret", model="dall-e-3", label="secret label")
    await images.save(tmp_path / "secret")
    exported = otel.everything()
    assert len(otel.jobs) == 2
    assert "secret" not in exported
    assert "?" not in exported
    assert service.api_key not in exported
