"""A session shows what it is doing, at a glance, and never its key."""

import asyncio
import re

from lemon_async import LemonSession
from lemon_async._api.rate_headers import RateReport
from lemon_async._tasks.task import ImageTask
from lemon_async.emulator import Blackhole, Fail, Reset
from lemon_async.types import TaskSnapshot


def shown(session):
    """Return the rows of what a notebook shows."""
    rows = re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", session._repr_html_(), re.DOTALL)
    return dict(rows)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def test_session_that_has_done_nothing_says_so():
    facts = shown(LemonSession("sk-x", base_url="http://127.0.0.1:1"))
    assert facts["base URL"] == "http://127.0.0.1:1"
    assert facts["state"] == "open"
    assert facts["requests per minute"] == "not known yet"
    assert facts["pending tasks"] == "none"
    assert facts["under way"] == "0 submits, 0 polls, 0 downloads"
    assert facts["sold"] == "0 (0 settled, 0 released, 0 open)"
    assert facts["unknown submissions"] == "0"


def test_pace_that_was_given_is_told_as_given():
    assert "(given" in shown(LemonSession("sk-x", requests_per_minute=60))["requests per minute"]


def test_pace_that_was_learned_is_told_as_learned():
    session = LemonSession("sk-x")
    session._engine.rate_limiter.budget.observe(0.0, RateReport(limit=600))
    assert re.fullmatch(r"\d+ \(learned\)", shown(session)["requests per minute"])


async def test_session_shows_what_is_under_way_and_what_was_bought(connect, emulator):
    emulator.fault("submit", Fail("no luck"), prompt="bad")
    emulator.fault("submit", Reset("request_end"), prompt="lost")
    emulator.fault("poll", Blackhole(), prompt="stuck")
    async with connect() as session:
        wishes = ("good", "bad", "lost")
        calls = [session.generate(prompt, model="flux-pro") for prompt in wishes]
        await asyncio.gather(*calls, return_exceptions=True)
        await session.submit("stuck", model="flux-pro", label="sku-17")
        await until(lambda: session._engine.poller.under_way == 1)
        facts = shown(session)
        assert re.fullmatch("1 (pending|processing)", facts["pending tasks"])
        assert re.fullmatch(r"ldtask_\w+ \(sku-17\)", facts["oldest of them"])
        assert facts["under way"] == "0 submits, 1 polls, 0 downloads"
        assert facts["sold"] == "3 (1 settled, 1 released, 1 open)"
        assert facts["unknown submissions"] == "1"
    assert shown(session)["state"] == "closed"


async def test_words_of_the_service_are_text_and_few(connect):
    async with connect() as session:
        for number in range(20):
            snapshot = TaskSnapshot(status=f"<script>{number}" + "x" * 500, task_id=f"t{number}")
            session._engine.poller._tasks[ImageTask(session._engine.tasks, snapshot, results=None)] = None
        assert "<script" not in session._repr_html_()
        assert len(shown(session)["pending tasks"]) < 500
        assert shown(session)["oldest of them"] == "t0, t1, t2, t3, t4, t5, …"
        session._engine.poller._tasks.clear()


def test_key_is_not_shown():
    session = LemonSession("sk-canary-0123456789", base_url="http://127.0.0.1:1")
    assert "canary" not in repr(session) + session._repr_html_()
