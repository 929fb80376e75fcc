"""Sessions behind a gateway: its URL has a path, and the addresses that come through it may lack that path."""

import logging

import pytest

from lemon_async import LemonSession, PollPolicy, RetryPolicy
from lemon_async._api.resume_token import parse_reference
from lemon_async.emulator import Answer, Stuck
from lemon_async.errors import NotFound

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=120, lost_after_s=0.02)
SLOW = PollPolicy(min_gap_s=1_200_000, max_gap_s=1_200_000)  # 200 s at the speed of the emulator


@pytest.fixture
def behind(gateway, emulator):
    """Open sessions on the gateway."""

    def open_session(base_url=gateway.base_url, **options):
        options = {"polling": QUICK, "retry": RetryPolicy(max_elapsed_s=0), **options}
        return LemonSession(emulator.api_key, base_url=base_url, **options)

    return open_session


@pytest.mark.parametrize("spelling", ["", "/", "/v1", "/v1/"])
@pytest.mark.parametrize("is_rewriting", [False, True], ids=["poll_url as it was", "poll_url rewritten"])
async def test_job_is_submitted_polled_and_fetched_behind_a_gateway(gateway, behind, spelling, is_rewriting):
    """Whether or not the gateway puts its path before the service's poll_url."""
    gateway.is_rewriting = is_rewriting
    async with behind(gateway.base_url + spelling) as session:
        task = await session.submit("a cat", model="flux-pro")
        assert task.poll_url == f"{'/lemon' if is_rewriting else ''}/v1/tasks/{task.id}"
        images = await task
        assert len(await images[0].read()) > 0
    assert gateway.paths[0] == "/lemon/v1/images/generations"
    assert set(gateway.paths[1:]) == {f"/lemon/v1/tasks/{task.id}"}


@pytest.mark.parametrize("form", ["{origin}/lemon/v1/tasks/{id}", "{origin}/v1/tasks/{id}"])
async def test_absolute_poll_url_of_a_gateway_is_called_below_its_path(gateway, behind, emulator, form):
    async with behind(polling=SLOW) as session:
        known = await session.submit("a cat", model="flux-pro")
        emulator.fault("submit", Answer(poll_url=form.format(origin=gateway.origin, id=known.id), task_id=known.id))
    async with behind() as session:
        assert len(await session.generate("a dog", model="flux-pro")) == 1
    assert gateway.paths[-1] == f"/lemon/v1/tasks/{known.id}"


async def test_files_and_models_are_found_behind_a_gateway(gateway, behind, picture):
    async with behind() as session:
        stored = await session.files.upload(picture(), model="flux-pro")
        assert [file.id for file in await session.files.list()] == [stored.id]
        await session.models(recommended_for="image")
        with pytest.raises(NotFound):
            await session.task("ldtask_unknown").request_cancel()
    assert all(path.startswith("/lemon/v1/") for path in gateway.paths)


@pytest.mark.parametrize("is_rewriting", [False, True], ids=["poll_url as it was", "poll_url rewritten"])
@pytest.mark.parametrize("sold_behind", [True, False], ids=["gateway to service", "service to gateway"])
async def test_token_is_good_with_and_without_the_gateway(gateway, behind, emulator, caplog, sold_behind, is_rewriting):
    """It holds the path below the base URL, whichever that was."""
    gateway.is_rewriting = is_rewriting
    seller, finder = (gateway.base_url, emulator.base_url)[:: 1 if sold_behind else -1]
    async with behind(seller, polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        token = task.resume_token()
    assert parse_reference(token).poll_url == f"/v1/tasks/{task.id}"
    with caplog.at_level(logging.WARNING, logger="lemon_async"):
        for base_url in (finder, seller):
            async with behind(base_url) as session:
                assert len(await session.task(token)) == 1
    assert not [record for record in caplog.records if "refused" in record.getMessage()]
    assert {path for path in gateway.paths if "tasks" in path} == {f"/lemon/v1/tasks/{task.id}"}


async def test_token_of_a_refused_poll_url_holds_the_path_that_is_polled_instead(behind, emulator):
    emulator.fault("submit", Answer(poll_url="https://evil.example/v1/tasks/1"), Stuck())
    async with behind(polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        assert parse_reference(task.resume_token()).poll_url == f"/v1/tasks/{task.id}"


async def test_session_behind_a_gateway_shows_its_base_url(gateway, behind):
    async with behind(f"{gateway.base_url}/v1/") as session:
        assert session.base_url == gateway.base_url
        assert repr(session).startswith(f"<LemonSession {gateway.base_url} [open")
