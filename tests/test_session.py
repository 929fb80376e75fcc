"""`LemonSession`: its calls, from the arguments to the result."""

import asyncio
import pickle
from functools import partial

import pytest

from lemon_async import (
    ContractError,
    GenerateRequest,
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
)
from lemon_async._http.key import KEY_VARIABLE
from lemon_async._http.shared_limit import client
from lemon_async._tasks.settings import BASE_URL_VARIABLE
from lemon_async.emulator import Blackhole, Emulator, Fail, Script
from lemon_async.errors import BadRequest, NotFound, TaskFailed
from servers import free_port

SLOW = PollPolicy(min_gap_s=1_200_000, max_gap_s=1_200_000)  # 200 s at the speed of the emulator
QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No key and no address come from the machine that runs the tests."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)


def routes(emulator):
    return [request.route for request in emulator.requests]


async def seen(emulator, route, times=1):
    """Wait until the emulator has seen so many requests."""
    async with asyncio.timeout(60):
        while routes(emulator).count(route) < times:
            await asyncio.sleep(0)


async def test_default_pace_follows_the_speed_of_an_emulator():
    """A job of 45 s takes less than a second there; at normal speed, it would be over before the first poll."""
    async with Emulator(speed=60, durations=45.0) as fast:
        async with asyncio.timeout(60), LemonSession(fast.api_key, base_url=fast.base_url) as lemon:
            await lemon.generate("a cat", model="flux-pro")
            task = await lemon.submit("a dog", model="flux-pro")
        async with asyncio.timeout(60), LemonSession(fast.api_key, base_url=fast.base_url) as lemon:
            await lemon.task(task.resume_token())
        assert 3 <= routes(fast).count("poll") <= 100


# Settings


async def test_extra_headers_go_with_every_request_to_the_api(connect, emulator, gateway, picture):
    """Submits, polls, uploads, lists and cancellations alike; what the library sets is as without them."""
    headers = {"X-Team": "a", "x-gateway-key": "gw-canary-9876543210"}
    async with LemonSession(emulator.api_key, base_url=gateway.base_url, headers=headers, polling=QUICK) as session:
        await session.generate("a cat", model="flux-pro")
        await session.files.upload(picture())
        await session.files.list()
        with pytest.raises(NotFound):
            await session.task("ldtask_unknown").request_cancel()
    assert len(gateway.requests) >= 5
    for _, sent in gateway.requests:
        assert (sent["X-Team"], sent["X-Gateway-Key"]) == ("a", "gw-canary-9876543210")
        assert sent["Authorization"] == f"Bearer {emulator.api_key}"
        assert sent["Accept"] == "application/json"


def test_session_is_not_pickled():
    """The key would be in the pickle."""
    with pytest.raises(TypeError, match="an API key cannot be pickled"):
        pickle.dumps(LemonSession("sk-x"))


# Generating


@pytest.mark.parametrize("model", ["dall-e-3", "flux-pro"])
async def test_generate_is_the_same_call_however_the_service_responds(connect, emulator, model):
    """Inline or through a task, the job is accepted once."""
    async with connect() as session:
        images = await session.generate("a cat", model=model)
        assert (await images[0].read()).startswith(b"\x89PNG")
        assert (images.task_id is None) == (model == "dall-e-3")
        assert float(images.billing.headers["x-lemondata-cost-usd"]) > 0
        assert session.pending == ()
    assert emulator.ledger.settled == {"a cat": 1}


async def test_submit_returns_when_the_service_has_accepted(connect, emulator):
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="midjourney")
        assert (task.done(), task.status) == (False, "pending")
        assert task.request == GenerateRequest("a cat", model="midjourney")
        assert task.poll_url == task._path == f"/v1/images/generations/{task.id}"
        assert session.pending == (task,)
        assert routes(emulator) == ["submit"]


async def test_inline_answer_is_a_task_that_is_over(connect):
    async with connect() as session:
        task = await session.submit("a cat", model="dall-e-3")
        assert task.billing == (await task).billing
        assert task.done()
        assert task.id is None
        assert session.pending == ()


async def test_request_goes_where_a_prompt_goes_and_fields_win_over_it(connect):
    request = GenerateRequest("a cat", model="flux-pro", size="512x512", extra={"seed": 5})
    async with connect() as session:
        task = await session.submit(request)
        assert task.request is request or task.request == request
        task = await session.submit(request, size="256x256", n=2)
        assert task.request == GenerateRequest("a cat", model="flux-pro", size="256x256", n=2, extra={"seed": 5})
        images = await task
        assert len(images) == 2
        await images[1].read()
        assert images[1].size == (256, 256)
    assert request.size == "512x512"


@pytest.mark.parametrize("prompt", ["a cat", GenerateRequest("a cat")], ids=["prompt", "request"])
async def test_unknown_fields_are_all_told_with_the_way_round(connect, emulator, prompt):
    async with connect() as session:
        with pytest.raises(ContractError) as caught:
            await session.submit(prompt, model="flux-pro", sise="512x512", seed=5)
    assert [str(problem) for problem in caught.value.problems] == [
        "sise: is not a field of this version (did you mean size=?); pass unknown fields in extra={...}",
        "seed: is not a field of this version; pass unknown fields in extra={...}",
    ]
    assert emulator.requests == []


async def test_fields_of_tomorrow_are_sent_as_they_are(serve, http_ok):
    server = await serve(http_ok(b'{"data": [{"b64_json": "aGk="}]}'))
    async with LemonSession("sk-x", base_url=server.origin) as session:
        await session.submit("a cat", model="new-model", extra={"seed": 5, "tags": ["x"]})
    assert server.bodies == [b'{"model":"new-model","prompt":"a cat","seed":5,"tags":["x"]}']


async def test_broken_rules_are_all_told_before_anything_is_sent(connect, emulator):
    async with connect() as session:
        with pytest.raises(ContractError) as caught:
            await session.generate("", model="dall-e-3", n=11, size="1x1", quality="best")
        assert [problem.field for problem in caught.value.problems] == ["prompt", "n", "size", "quality"]
    assert emulator.requests == []


@pytest.mark.parametrize(("of_session", "of_request"), [(False, None), (True, False), (False, False)])
async def test_checks_can_be_switched_off_and_the_service_has_the_last_word(connect, emulator, of_session, of_request):
    async with connect(check_contracts=of_session) as session:
        with pytest.raises(BadRequest):
            await session.submit("a cat", model="dall-e-3", quality="best", check_contracts=of_request)
    assert routes(emulator) == ["submit"]


async def test_checks_can_be_switched_on_for_one_request(connect, emulator):
    async with connect(check_contracts=False) as session:
        with pytest.raises(ContractError, match="quality"):
            await session.generate("a cat", model="dall-e-3", quality="best", check_contracts=True)
    assert emulator.requests == []


async def test_failed_task_is_an_error_that_can_be_resumed_from(connect, emulator):
    emulator.fault("submit", Fail({"code": "content_policy", "message": "Blocked."}))
    async with connect() as session:
        with pytest.raises(TaskFailed, match=r"failed: Blocked\. \(content_policy\)") as caught:
            await session.generate("a cat", model="flux-pro")
        with pytest.raises(TaskFailed):
            await session.task(caught.value.resume_token)
    assert emulator.ledger.released == {"a cat": 1}


async def test_cancelled_submit_leaves_its_doubt_as_the_cause_and_in_the_session(connect, emulator):
    emulator.fault("submit", Blackhole())
    async with connect() as session:
        submitting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
        await seen(emulator, "submit")
        assert "[open | 1 submits | 0 tasks pending, 0 polls]" in repr(session)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await submitting
        assert isinstance(caught.value.__cause__, SubmissionUnknown)
        (kept,) = session.unknown_submissions
        assert kept.fingerprint == caught.value.__cause__.fingerprint
        assert caught.value.__cause__.request == GenerateRequest("a cat", model="flux-pro")


async def test_tasks_come_as_they_are_completed(connect, emulator):
    emulator.fault("submit", Script(("pending",) * 3 + ("completed",)), prompt="slow")
    async with connect() as session:
        slow = await session.submit("slow", model="flux-pro")
        quick = await session.submit("quick", model="dall-e-3")
        assert [task async for task in session.as_completed([slow, quick])] == [quick, slow]


async def test_anything_but_a_task_is_refused(connect):
    """The usual mistake is a coroutine that was not awaited."""
    async with connect() as session:
        with pytest.raises(ContractError, match=r"tasks: must be tasks, as `await session.submit\(...\)`.*not str"):
            session.as_completed(["ldtask_1"])


async def test_filter_of_models_that_cannot_be_sent_is_refused(connect):
    async with connect() as session:
        for value in ("\ud800", 5, ["image"]):
            with pytest.raises(ContractError, match="tag: must be text without lone surrogates, not "):
                await session.models(tag=value)


async def test_prompt_of_a_megabyte_is_sent_without_a_warning(connect, emulator):
    """Long bodies are sent in pieces; the emulator, like the service, refuses this one."""
    async with connect() as session:
        with pytest.raises(BadRequest, match="at most 4000 characters"):
            await session.submit("a cat " * 170_000, model="flux-pro")


@pytest.mark.parametrize("model", [123, ["a"], True], ids=repr)
async def test_job_of_a_model_that_is_not_text_is_polled_like_any_other(serve, http_ok, model):
    """It was not checked, and the service accepted it: it is paid for."""
    sold = http_ok(b'{"task_id": "ldtask_1", "status": "pending"}')
    done = http_ok(b'{"task_id": "ldtask_1", "status": "completed", "data": [{"url": "https://cdn.test/1.png"}]}')
    server = await serve(sold, done)
    polling = PollPolicy(min_gap_s=0.001, max_gap_s=0.005)
    async with LemonSession("sk-x", base_url=server.origin, check_contracts=False, polling=polling) as session:
        assert len(await session.generate("a cat", model=model)) == 1
        assert session.submission_counts.settled == 1


def test_request_is_validated_without_a_session_and_without_its_contract():
    """The label is a rule of this library: it holds even unchecked."""
    assert [problem.field for problem in LemonSession.validate("a cat", n=0, label="")] == ["n", "label"]
    assert [problem.field for problem in LemonSession.validate("a cat", n=0, label="", check_contracts=False)] == [
        "label"
    ]


async def test_session_whose_limit_is_in_a_store_that_is_not_there_sends_nothing(emulator, monkeypatch):
    """The error names the store, and neither it nor the session shows the password; a task is polled later."""
    pytest.importorskip("redis")
    monkeypatch.setattr(client, "_FIRST_CONTACT_S", 0.2)
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/3"
    options = {"requests_per_minute": 600, "shared_limit": url, "retry": RetryPolicy(max_elapsed_s=0)}
    async with LemonSession(emulator.api_key, base_url=emulator.base_url, **options) as lemon:
        shown = repr(lemon) + lemon._repr_html_()
        for call in (partial(lemon.generate, "a cat", model="flux-pro"), lemon.models):
            with pytest.raises(
                ContractError, match=r"redis://127\.0\.0\.1:\d+/3 cannot be reached: .*nothing was sent"
            ) as caught:
                await call()
            shown += str(caught.value)
        task = lemon.task("ldtask_1")
        await asyncio.sleep(0)
        assert not task.done()
    assert not routes(emulator)
    assert shown.count("redis://127.0.0.1") == 4
    assert "hunter2" not in shown
