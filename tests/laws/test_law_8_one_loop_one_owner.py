"""Law 8. Background work belongs to the session, which belongs to one event loop."""

import ast
import asyncio
import gc
import io
from collections import Counter
from pathlib import Path

import pytest

import lemon_async
from lemon_async import LemonSession, PollPolicy
from lemon_async.emulator import Blackhole, Emulator, Latency, Reset, Status, Stuck
from lemon_async.errors import SessionError
from open_files import IS_LISTED, open_files

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)

PACKAGE = Path(lemon_async.__file__).parent
CLIENT = [path for path in PACKAGE.rglob("*.py") if "emulator" not in path.parts]


async def test_session_is_opened_used_and_closed_in_three_asyncio_tasks(emulator, connect):
    """A notebook runs each cell in a task of its own."""

    async def cell(coroutine):
        return await asyncio.create_task(coroutine)

    session = LemonSession(emulator.api_key, base_url=emulator.base_url, polling=QUICK)
    assert await cell(session.__aenter__()) is session
    images = await cell(session.generate("cell", model="dall-e-3"))
    assert len(await cell(images[0].read())) > 0
    task = await cell(session.submit("next cell", model="flux-pro"))
    await cell(task.wait())
    await cell(session.aclose())
    assert "closed" in repr(session)


async def test_nothing_runs_before_it_is_needed_or_after(connect, emulator):
    """The poller starts with the first pending task and is gone when the last has ended."""

    def ours():
        # The emulator runs in this loop too, under other names.
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("lemon_async")]

    async with connect() as session:
        await session.generate("inline", model="dall-e-3")
        assert ours() == []
        for prompt in ("first", "second"):
            task = await session.submit(prompt, model="flux-pro")
            assert ours() == ["lemon_async poller"]
            await task
            async with asyncio.timeout(60):
                while ours():
                    await asyncio.sleep(0)


async def in_pieces(path):
    yield path.read_bytes()[:1000]
    yield path.read_bytes()[1000:]


async def edit(session, path):
    await session.edit("e", image=[path, io.BytesIO(path.read_bytes()), in_pieces(path)], model="flux-pro")


async def stream_and_leave(session, path):
    async with session.stream("l", image=[path, in_pieces(path)], model="gpt-image-2", partial_images=1) as stream:
        await anext(stream)


async def stream(session, path):
    async with session.stream("s", image=[path, in_pieces(path)], model="gpt-image-2", partial_images=1) as stream:
        async for _ in stream:
            pass


def files_left():
    """Count the open files of this process except connections, after garbage collection."""
    gc.collect()
    return Counter({name: number for name, number in open_files().items() if not name.startswith("socket:")})


FATES = {"done": Latency(0), "reset": Reset("request_end"), "refused": Status(400), "cancelled": Blackhole()}


@pytest.mark.skipif(not IS_LISTED, reason="this system does not list open files")
@pytest.mark.parametrize("fate", FATES)
async def test_no_task_file_or_connection_is_left_by_paid_requests(connect, emulator, picture, tmp_path, fate):
    """Edits and streams of files, generators and pictures leave nothing open, however they end."""
    path = tmp_path / "big.png"
    path.write_bytes(picture(pad_to=2_000_000))
    emulator.fault("edit", FATES[fate])

    async def use_all():
        sold = emulator.ledger.sold.total()
        async with connect() as session:
            await session.files.upload(path)
            using = [asyncio.create_task(use(session, path)) for use in (edit, stream, stream_and_leave)]
            while fate == "cancelled" and emulator.ledger.sold.total() < sold + len(using):
                await asyncio.sleep(0.001)
            for use in using:
                _ = fate == "cancelled" and use.cancel()
            await asyncio.gather(*using, return_exceptions=True)

    await use_all()  # opens what is opened once: threads, the emulator's folder
    before = files_left()
    await use_all()
    async with asyncio.timeout(60):  # also for threads of the emulator, which still draw
        while emulator.connections or not files_left() <= before:
            await asyncio.sleep(0.001)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("lemon_async")]
    assert [name.name for name in tmp_path.iterdir()] == ["big.png"]


async def test_map_is_entered_read_and_left_in_three_asyncio_tasks(connect):
    """It holds no cancel scope, so that each step can run in a different notebook cell."""

    async def cell(coroutine):
        return await asyncio.create_task(coroutine)

    async with connect() as session:
        outcomes = session.map(map(str, range(5)), model="flux-pro", in_flight=2)
        assert await cell(outcomes.__aenter__()) is outcomes
        for _ in range(3):
            assert len((await cell(outcomes.__anext__())).images) == 1
        await cell(outcomes.__aexit__(None, None, None))
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "lemon_async map"]


@pytest.mark.parametrize("fate", FATES)
async def test_no_task_or_connection_is_left_by_maps(connect, emulator, fate):
    """However their jobs end."""
    emulator.fault("submit", FATES[fate])
    async with connect() as session:
        outcomes = session.map(map(str, range(20)), model="flux-pro", in_flight=5)
        async with outcomes:
            if fate == "cancelled":
                while emulator.ledger.sold.total() < 5:
                    await asyncio.sleep(0.001)
                outcomes.close()
                await session.aclose()
            assert len([outcome async for outcome in outcomes]) == (5 if fate == "cancelled" else 20)
    async with asyncio.timeout(60):
        while emulator.connections:
            await asyncio.sleep(0.001)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("lemon_async")]


def test_session_used_from_another_loop_raises_with_advice():
    """`SessionError` says where to create the session instead."""
    session = LemonSession("sk-x", base_url="http://127.0.0.1:1")

    async def use():
        async with asyncio.timeout(60):
            session._engine.check_usable()
            await session.submit("x")

    async def bind():
        session._engine.check_usable()

    asyncio.run(bind())
    with pytest.raises(SessionError, match="belongs to another event loop; make one in each loop"):
        asyncio.run(use())


async def test_task_awaited_from_another_loop_raises_with_advice(connect, emulator):
    """A handle belongs to the loop of its session."""
    emulator.fault("submit", Stuck())

    async def wait_for(task):
        await task

    async with connect() as session:
        task = await session.submit("here", model="flux-pro")
        with pytest.raises(SessionError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, wait_for(task))


def test_session_used_outside_a_coroutine_raises_with_advice():
    """There is no running loop to bind to."""
    with pytest.raises(SessionError, match="inside a coroutine"):
        LemonSession("sk-x").task("ldtask_1")


async def test_closed_session_refuses_work_and_fails_all_waiters(connect, emulator):
    """Waits end when the session closes, with the token to continue."""
    emulator.fault("submit", Stuck())
    async with connect() as session:
        task = await session.submit("stuck", model="flux-pro")
        waiting = asyncio.create_task(task.wait())
        await asyncio.sleep(0)
    with pytest.raises(SessionError, match="closed while the task was pending") as caught:
        await waiting
    assert caught.value.resume_token == task.resume_token()
    with pytest.raises(SessionError, match="the session is closed"):
        await session.submit("more")


async def test_task_is_resumed_by_another_session_without_a_second_job(connect, emulator):
    """A token, or the bare id, is all that another process needs."""
    async with connect() as session:
        task = await session.submit("durable", model="midjourney")
        token = task.resume_token()
    async with connect() as session:
        assert len(await session.task(token)) == 1
        assert len(await session.task(task.id)) == 1
    assert emulator.ledger.sold == {"durable": 1}


async def test_emulator_of_another_loop_serves_sessions_of_this_one():
    """Sessions of two loops talk to one service."""
    async with Emulator(speed=6000) as service:

        async def elsewhere():
            async with LemonSession(service.api_key, base_url=service.base_url) as session:
                return await session.generate("there", model="dall-e-3")

        assert len(await asyncio.to_thread(asyncio.run, elsewhere())) == 1


SCOPES = {"timeout", "timeout_at", "TaskGroup", "move_on_after", "fail_after", "create_task_group", "CancelScope"}


def is_scope_across_a_yield(node):
    """Return whether a block of a scope or task group contains a `yield`."""
    if not isinstance(node, ast.With | ast.AsyncWith):
        return False
    opened = [item.context_expr for item in node.items]
    names = {call.func.attr for call in opened if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)}
    return bool(names & SCOPES) and any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node))


def test_no_work_in_finalizers_and_no_scope_across_a_yield():
    """The sources define no `__del__`, and no generator of the client holds a scope or task group."""
    assert len(CLIENT) > 100
    for path in CLIENT:
        for node in ast.walk(ast.parse(path.read_text())):
            assert getattr(node, "name", None) != "__del__", path
            assert not is_scope_across_a_yield(node), f"{path}, line {node.lineno}: yields inside a scope"
