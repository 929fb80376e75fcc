"""`generate`, `edit` and `create_variation` tell how their one job goes, to the end, however it ends."""

import asyncio
import contextlib
import logging

import pytest

from lemon_async import ApiError, ContractError, SubmissionUnknown
from lemon_async.emulator import Blackhole, Fail, Reset, Status, Stuck
from lemon_async.errors import TaskFailed

MODEL = "flux-pro"


def stages(seen):
    """Return what was told, without the time."""
    return [(part.status, part.done, part.failed, part.in_flight, part.submitting) for part in seen]


async def test_function_hears_of_a_task_from_its_submit_to_its_end(connect):
    seen = []
    async with connect() as session:
        images = await session.generate("a cat", model=MODEL, progress=seen.append)
    assert len(images) == 1
    assert stages(seen)[0] == (None, 0, 0, 0, 1)
    assert stages(seen)[-1] == ("completed", 1, 0, 0, 0)
    assert stages(seen).count(stages(seen)[-1]) == 1
    assert [part.seconds for part in seen] == sorted(part.seconds for part in seen)
    assert {part.total for part in seen} == {1}
    assert [status for status, *_ in stages(seen)] == sorted(
        (status for status, *_ in stages(seen)), key=[None, "pending", "processing", "completed"].index
    )


async def test_edits_variations_and_inline_answers_tell_the_same(connect, picture):
    square = picture((256, 256))
    seen = []
    async with connect() as session:
        await session.edit("a hat", image=picture(mode="RGB"), model=MODEL, progress=seen.append)
        await session.create_variation(square, progress=seen.append)
        await session.generate("a cat", model="dall-e-3", progress=seen.append)
    assert [stage for stage in stages(seen) if stage[1]] == [("completed", 1, 0, 0, 0)] * 3


@pytest.mark.parametrize(
    ("fault", "error", "last"),
    [
        (Status(400), ApiError, (None, 1, 1, 0, 0)),
        (Reset("request_end"), SubmissionUnknown, (None, 1, 1, 0, 0)),
        (Fail("no luck"), TaskFailed, ("failed", 1, 1, 0, 0)),
    ],
    ids=["refused", "unknown", "failed"],
)
async def test_job_that_fails_is_told_as_failed(connect, emulator, fault, error, last):
    emulator.fault("submit", fault)
    seen = []
    async with connect() as session:
        with pytest.raises(error):
            await session.generate("a cat", model=MODEL, progress=seen.append)
    assert stages(seen)[-1] == last


async def test_request_that_breaks_the_rules_is_told_as_failed(connect, emulator):
    seen = []
    async with connect() as session:
        with pytest.raises(ContractError, match="n: "):
            await session.generate("a cat", n=99, progress=seen.append)
    assert stages(seen) == [(None, 1, 1, 0, 0)]
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("fault", "last"),
    [(Stuck(), (0, 0, 1, 0)), (Blackhole(), (0, 0, 0, 0))],
    ids=["sold", "on its way"],
)
async def test_cancelled_job_is_told_as_it_stands(connect, emulator, fault, last):
    """What was sold is in flight still; cancelling is not swallowed."""
    emulator.fault("submit", fault)
    seen = []
    async with connect() as session:
        generating = asyncio.create_task(session.generate("kept", model=MODEL, progress=seen.append))
        async with asyncio.timeout(5):
            while not (session.pending or (isinstance(fault, Blackhole) and emulator.ledger.sold)):
                await asyncio.sleep(0.001)
        generating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await generating
    assert stages(seen)[-1][1:] == last


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError])
async def test_function_that_fails_costs_no_picture(connect, emulator, caplog, failure):
    caplog.set_level(logging.ERROR, logger="lemon_async")

    def broken(_progress):
        raise failure

    async with connect() as session:
        assert len(await session.generate("a cat", model=MODEL, progress=broken)) == 1
        assert len(await session.generate("a dog", model="dall-e-3", progress=broken)) == 1
    assert [record.exc_info[0] for record in caplog.records] == [failure] * 2
    assert emulator.ledger.settled.total() == 2


@pytest.mark.parametrize("call", ["generate", "edit", "create_variation"])
async def test_option_that_means_nothing_is_refused_before_money_is_spent(connect, emulator, call):
    async def later(progress):
        raise AssertionError

    async with connect() as session:
        for option in ("yes", None, later):
            with pytest.raises(ContractError, match="progress: must be"):
                await getattr(session, call)("cat.png", progress=option)
    assert emulator.requests == []


async def test_bar_leaves_no_timer_behind(timers, connect, emulator, monkeypatch):
    """The time is shown without any news; however the job ends, the ticking ends with it."""
    monkeypatch.setattr("lemon_async._tasks.progress._TICK_S", 0.001)
    bars, ends = [], []

    class Bar:
        disable = False
        total = 1
        n = 0

        def __init__(self, **options):
            self.painted = 0
            bars.append(self)

        def set_description_str(self, text, *, refresh):
            self.text = text

        def update(self, n):
            self.painted += 1

        def refresh(self, *, nolock):
            pass

        def get_lock(self):
            return contextlib.nullcontext()

        def close(self):
            ends.append(self.text)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    emulator.fault("submit", Stuck(), prompt="stuck")
    emulator.fault("submit", Fail("no luck"), prompt="bad")
    async with connect() as session:
        ticking = asyncio.create_task(session.generate("stuck", model=MODEL, progress=True))
        async with asyncio.timeout(5):
            while not bars or bars[0].painted < 9 or bars[0].text != "processing":
                await asyncio.sleep(0.001)
        ticking.cancel()
        await asyncio.wait([ticking])
        await session.generate("good", model=MODEL, progress=True)
        with pytest.raises(TaskFailed):
            await session.generate("bad", model=MODEL, progress=True)
        ours = [timer for timer in timers() if "Reporter" in repr(timer._callback)]
        assert ours == []
    assert ends == ["processing", "completed", "failed"]
