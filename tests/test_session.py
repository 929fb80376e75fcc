"""The session: one object for every call, and the owner of everything that runs for them."""

import asyncio
import base64
import os
import pickle
import subprocess
import sys
import textwrap
import traceback

import anyio
import orjson
import pytest

from lemon_async import (
    ApiError,
    ContractError,
    GenerateRequest,
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
    Timeouts,
    TransportError,
)
from lemon_async._http.key import KEY_VARIABLE
from lemon_async._tasks.resume_token import TaskReference
from lemon_async._tasks.settings import BASE_URL_VARIABLE
from lemon_async.emulator import Answer, Blackhole, Emulator, Fail, Reset, Result, Script, Status, Stuck
from lemon_async.errors import AccessDenied, BadRequest, Conflict, NotFound, SessionError, TaskCancelled, TaskFailed

SLOW = PollPolicy(min_gap_s=120_000, max_gap_s=120_000)  # 20 s at the speed of the emulator
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
    async with asyncio.timeout(5):
        while routes(emulator).count(route) < times:
            await asyncio.sleep(0)


async def test_default_pace_follows_the_speed_of_an_emulator():
    """A job of 45 s takes less than a second there; at the pace of the service, the first poll would come later."""
    async with Emulator(speed=60, durations=45.0) as fast:
        async with asyncio.timeout(5), LemonSession(fast.api_key, base_url=fast.base_url) as lemon:
            await lemon.generate("a cat", model="flux-pro")
            task = await lemon.submit("a dog", model="flux-pro")
        async with asyncio.timeout(5), LemonSession(fast.api_key, base_url=fast.base_url) as lemon:
            await lemon.task(task.resume_token())
        assert 3 <= routes(fast).count("poll") <= 40


# Settings


def test_every_bad_setting_is_told_at_once():
    with pytest.raises(ContractError) as caught:
        LemonSession("sk x", base_url="http://api.test", max_submits=0, max_polls=True, max_downloads="8")
    assert [(problem.field, problem.message.partition(",")[0]) for problem in caught.value.problems] == [
        ("api_key", "contains a character that no key has (white space"),
        ("base_url", "must use https"),
        ("max_submits", "must be a whole number from 1"),
        ("max_polls", "must be a whole number from 1"),
        ("max_downloads", "must be a whole number from 1"),
    ]
    assert str(caught.value).startswith("5 problems, nothing was sent:\n  - api_key: ")


def test_missing_key_is_told_where_to_come_from():
    with pytest.raises(ContractError, match=f"api_key: is missing: pass api_key=, or set .* {KEY_VARIABLE}"):
        LemonSession()


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://api.test", "https://api.test"),
        ("https://api.test/", "https://api.test"),
        ("https://api.test/v1", "https://api.test"),
        ("https://api.test/v1/", "https://api.test"),
        ("https://API.test:443", "https://api.test"),
        ("https://api.test:8443/v1", "https://api.test:8443"),
        ("http://localhost:8080/v1", "http://localhost:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://gateway.test/lemon/v1/", "https://gateway.test/lemon"),
        (None, "https://api.lemondata.cc"),
    ],
)
def test_address_is_read_as_openai_clients_spell_it(base_url, origin):
    assert LemonSession("sk-x", base_url=base_url).base_url == origin


def test_plain_http_needs_a_host_that_is_named():
    assert LemonSession("sk-x", base_url="http://emulator:80", allow_http={"emulator"}).base_url == "http://emulator"
    with pytest.raises(ContractError, match=r"allow_http=\{'emulator'\}"):
        LemonSession("sk-x", base_url="http://emulator", allow_http={"other"})


@pytest.mark.parametrize("given", ["emulator", ["emulator"], {"http://emulator"}, {"*"}], ids=repr)
def test_host_for_plain_http_that_cannot_work_is_refused(given):
    with pytest.raises(ContractError, match="allow_http: ") as caught:
        LemonSession("sk-x", base_url="https://emulator", allow_http=given)
    assert [problem.field for problem in caught.value.problems] == ["allow_http"]


@pytest.mark.parametrize(
    ("base_url", "advice"),
    [
        ("api.test", "must look like https://api.lemondata.cc"),
        ("ftp://api.test", "must look like https://api.lemondata.cc"),
        ("https://", "must look like https://api.lemondata.cc"),
        ("https://api.test:port", "must look like https://api.lemondata.cc"),
        ("https://api.test\r\n", "must look like https://api.lemondata.cc"),
        ("https://me:sk-x@api.test", "must not hold credentials; pass the key as api_key"),
        ("https://api.test?key=x", "must not have a query or a fragment"),
        ("https://api.test/#x", "must not have a query or a fragment"),
        ("https://api.test/v1/images/generations", "must be the part before /v1"),
        ("https://api.test/a/../b", "must have a plain path such as /lemon, or none"),
        ("http://192.168.0.1", "must use https, or the key could be read on the way"),
    ],
)
def test_address_that_cannot_work_is_refused_with_what_to_change(base_url, advice):
    with pytest.raises(ContractError, match="base_url: ") as caught:
        LemonSession("sk-x", base_url=base_url)
    assert caught.value.problems[0].message.startswith(advice)


def test_address_and_key_come_from_the_environment_and_arguments_win(monkeypatch):
    monkeypatch.setenv(BASE_URL_VARIABLE, "https://env.test/v1")
    with pytest.raises(ContractError, match="api_key"):
        LemonSession()
    monkeypatch.setenv(KEY_VARIABLE, "sk-env")
    assert LemonSession().base_url == "https://env.test"
    assert LemonSession(base_url="https://argument.test").base_url == "https://argument.test"
    with pytest.raises(ContractError, match="api_key: is missing"):
        LemonSession("")


async def test_session_works_from_the_environment_alone(emulator, monkeypatch):
    monkeypatch.setenv(BASE_URL_VARIABLE, emulator.base_url)
    monkeypatch.setenv(KEY_VARIABLE, emulator.api_key)
    async with LemonSession(polling=QUICK) as session:
        assert len(await session.generate("a cat", model="flux-pro")) == 1


def test_traceback_of_refused_settings_shows_no_key():
    """Not even to who prints the local variables of our frames."""

    def read_key():
        return "sk-canary-0123456789"

    with pytest.raises(ContractError) as caught:
        LemonSession(read_key(), max_polls=0)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "self = <LemonSession, not initialised>" in shown
    assert "key = ApiKey('***')" in shown
    assert "sk-canary-0123456789" not in shown


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Authorization": "Bearer gw-canary-9876543210"}, "Authorization cannot be set"),
        ({"X-Key": "gw-canary-9876543210\n"}, "the value of X-Key must be one line"),
        ({"gw-canary-9876543210 X": "a"}, "the name of entry 1 must be letters"),
        ("X-Key: gw-canary-9876543210", "must be a mapping"),
    ],
)
def test_extra_header_that_cannot_be_sent_is_refused_and_its_value_shown_nowhere(headers, words):
    held = [headers]
    del headers  # or the test's own frame would show it
    with pytest.raises(ContractError, match=f"headers: {words}") as caught:
        LemonSession("sk-x", headers=held.pop())
    error = caught.value.with_traceback(caught.tb.tb_next)
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "gw-canary" not in shown + str(error) + repr(error)


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


def test_session_of_another_loop_or_none_can_be_made_anywhere():
    """It is bound to an event loop when it is first used, not when it is made."""
    session = LemonSession("sk-x", base_url="http://127.0.0.1:1")
    assert repr(session) == "<LemonSession http://127.0.0.1:1 [open | 0 submits | 0 tasks pending, 0 polls]>"


# Generating


@pytest.mark.parametrize("model", ["dall-e-3", "flux-pro"])
async def test_generate_is_the_same_call_however_the_service_answers(connect, emulator, model):
    """Inline or through a task, sold once either way."""
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
        assert task.billing is (await task).billing
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


# Tasks


async def test_task_is_picked_up_by_id_and_by_token(connect, emulator):
    """By another session, for instance in another process; polling starts at once."""
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="midjourney")
    while emulator.ledger.open:
        await asyncio.sleep(0)
    async with asyncio.timeout(5), connect(polling=SLOW) as session:
        by_token = session.task(task.resume_token())
        assert (by_token.id, by_token.poll_url, by_token.request) == (task.id, task.poll_url, None)
        assert len(await by_token) == 1
        assert len(await session.task(task.id)) == 1
    assert emulator.ledger.sold == {"a cat": 1}


async def test_task_that_is_waited_for_already_is_returned_as_it_is(connect, emulator):
    emulator.fault("submit", Stuck())
    async with connect(polling=SLOW) as session:
        other = await session.submit("a dog", model="flux-pro")
        task = await session.submit("a cat", model="flux-pro")
        assert session.task(task.id) is task
        assert session.task(task.resume_token()) is task
        assert session.pending == (other, task)


async def test_reference_that_is_none_is_refused(connect, emulator):
    async with connect() as session:
        with pytest.raises(ContractError, match="task: is neither a task id nor a resume token"):
            session.task("../models")
        assert session.pending == ()
    assert emulator.requests == []


async def test_token_with_neither_an_address_nor_an_id_to_poll_is_refused(connect, emulator):
    async with connect() as session:
        with pytest.raises(ContractError, match="task: cannot be polled: a task id is one word of printable ASCII"):
            session.task(TaskReference("two words", "//evil.test").token())
    assert emulator.requests == []


async def test_task_with_an_address_and_an_odd_id_is_polled_there_and_cannot_be_cancelled(serve, http_ok):
    """The service's address is enough to wait; cancelling has no address of its own."""
    server = await serve(http_ok(b'{"status": "pending"}'))
    async with LemonSession("sk-x", base_url=server.origin, polling=QUICK) as session:
        task = session.task(TaskReference("two words", "/v1/jobs/7").token())
        await server.arrived.wait()
        with pytest.raises(SessionError, match="a task with such an id cannot be cancelled") as caught:
            await task.request_cancel()
        assert caught.value.task is task
    assert {head.split(" HTTP")[0] for head in server.heads} == {"GET /v1/jobs/7"}


async def test_token_with_a_hostile_address_polls_the_id(connect, emulator, serve, http_ok, caplog):
    """A token is a stranger's text: the key goes nowhere else for it."""
    stranger = await serve(http_ok(b"{}"))
    async with connect() as session:
        task = await session.submit("a cat", model="flux-pro")
        await task
        forged = TaskReference(task.id, f"{stranger.origin}/v1/tasks/{task.id}").token()
        with caplog.at_level("WARNING", logger="lemon_async"):
            assert len(await session.task(forged)) == 1
    assert stranger.heads == []
    assert "poll_url of the resume token refused (it leaves the API's origin)" in caplog.text


async def test_tasks_come_as_they_are_completed(connect, emulator):
    emulator.fault("submit", Script(("pending",) * 3 + ("completed",)), prompt="slow")
    async with connect() as session:
        slow = await session.submit("slow", model="flux-pro")
        quick = await session.submit("quick", model="dall-e-3")
        assert [task async for task in session.as_completed([slow, quick])] == [quick, slow]


# Cancelling at the service


async def test_cancel_that_is_refused_says_why_and_the_task_goes_on(connect, emulator):
    """Most image models cannot be cancelled."""
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        with pytest.raises(BadRequest, match="unsupported_task_cancel: flux-pro tasks cannot be cancelled") as caught:
            await task.request_cancel()
        assert caught.value.task is task
        assert caught.value.resume_token == task.resume_token()
        assert not task.done()
        assert session.pending == (task,)


async def test_cancel_that_is_granted_ends_the_task_and_gives_the_money_back():
    async with (
        Emulator(cancellable=True) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, polling=SLOW) as session,
    ):
        task = await session.submit("a cat", model="flux-pro")
        waiting = asyncio.create_task(task.wait())
        await task.request_cancel()
        assert repr(task) == f"<ImageTask {task.id} TaskCancelled prompt='a cat'>"
        with pytest.raises(TaskCancelled, match="was cancelled: Task was cancelled"):
            await waiting
        assert session.pending == ()
        await task.request_cancel()
        assert routes(emulator) == ["submit", "cancel"]
        assert emulator.ledger.released == {"a cat": 1}


async def test_cancel_that_comes_too_late_is_a_conflict():
    async with (
        Emulator(cancellable=True, durations=0) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, polling=SLOW) as session,
    ):
        task = await session.submit("a cat", model="flux-pro")
        with pytest.raises(Conflict, match="task_not_cancellable"):
            await task.request_cancel()
        assert not task.done()


async def test_cancel_of_what_is_not_ours_is_refused():
    async with (
        Emulator(cancellable=True) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, polling=SLOW) as owner,
        LemonSession(emulator.add_key("sk-other"), base_url=emulator.base_url, polling=SLOW) as other,
    ):
        task = await owner.submit("a cat", model="flux-pro")
        with pytest.raises(AccessDenied, match="another account"):
            await other.task(task.id).request_cancel()
        with pytest.raises(NotFound, match="async_task_not_found"):
            await other.task("ldtask_unknown").request_cancel()


async def test_cancel_that_the_service_only_takes_note_of_leaves_the_task_pending(connect, emulator, serve, http_ok):
    """Its word counts: a task that is still said to be pending is polled on."""
    pending = http_ok(b'{"task_id": "ldtask_1", "status": "pending", "data": []}')
    server = await serve(pending)
    async with LemonSession("sk-x", base_url=server.origin, polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        await task.request_cancel()
        assert session.pending == (task,)
    assert server.heads[1].startswith("DELETE /v1/tasks/ldtask_1 ")


async def test_cancel_without_an_answer_can_be_asked_again_and_carries_the_task(connect, emulator):
    emulator.fault("cancel", Reset("request_end"))
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        with pytest.raises(TransportError, match="DELETE /v1/tasks/ldtask_") as caught:
            await task.request_cancel()
        assert caught.value.task is task
        assert caught.value.__cause__ is not None


async def test_cancel_with_an_answer_that_cannot_be_read_is_an_api_error(connect, emulator):
    emulator.fault("cancel", Status(200, "html"))
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        with pytest.raises(ApiError, match="HTTP 200: the response is an HTML page"):
            await task.request_cancel()
        assert not task.done()


# Closing


async def test_repr_is_a_dashboard(connect, emulator):
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        assert repr(session) == f"<LemonSession {emulator.base_url} [open | 0 submits | 1 tasks pending, 1 polls]>"
    assert repr(session) == f"<LemonSession {emulator.base_url} [closed | 0 submits | 1 tasks pending, 0 polls]>"


async def test_closed_session_refuses_every_use(connect, emulator):
    async with connect() as session:
        pass
    uses = [
        session.generate("a cat"),
        session.submit("a cat"),
        session.__aenter__(),
    ]
    for use in uses:
        with pytest.raises(SessionError, match="the session is closed; open a new one"):
            await use
    for use in (lambda: session.task("ldtask_1"), lambda: session.as_completed([])):
        with pytest.raises(SessionError, match="the session is closed"):
            use()
    assert emulator.requests == []


async def test_pictures_of_a_closed_session_can_be_read_when_they_came_with_the_answer(connect, emulator, png):
    """Links need connections, and nobody would close those."""
    emulator.fault("submit", Result([{"b64_json": base64.b64encode(png).decode()}]), prompt="inline")
    async with connect() as session:
        inline = await session.generate("inline", model="flux-pro")
        linked = await session.generate("linked", model="flux-pro")
    assert await inline[0].read() == png
    with pytest.raises(SessionError, match="the session is closed"):
        await linked[0].read()
    while emulator.connections:
        await asyncio.sleep(0)


async def test_exception_in_the_block_closes_the_session_and_goes_on(connect, emulator):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is left
        async with connect(polling=SLOW) as session:
            task = await session.submit("a cat", model="flux-pro")
            raise ZeroDivisionError
    with pytest.raises(SessionError, match=r"can be resumed by its resume_token\(\)") as caught:
        await task
    assert caught.value.resume_token == task.resume_token()
    while emulator.connections:
        await asyncio.sleep(0)


async def test_session_that_was_never_used_is_closed_without_a_trace(emulator):
    session = LemonSession(emulator.api_key, base_url=emulator.base_url)
    await session.aclose()
    await session.aclose()
    assert "closed" in repr(session)
    assert asyncio.all_tasks() == {asyncio.current_task()} | {
        task for task in asyncio.all_tasks() if not task.get_name().startswith("lemon_async")
    }


async def test_session_is_closed_once_by_whoever_asks(connect, emulator):
    """From several asyncio tasks at once, and again afterwards."""
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        task = await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        await asyncio.gather(*(asyncio.create_task(session.aclose()) for _ in range(3)))
        assert task.done()
        await session.aclose()


async def test_cancelled_close_goes_on(connect, emulator):
    """Whoever gives up waiting does not leave half a session behind."""
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        task = await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        closing = asyncio.create_task(session.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(SessionError):
            await task
        while emulator.connections:
            await asyncio.sleep(0)


async def test_paid_request_under_way_when_the_session_closes_is_in_doubt(connect, emulator):
    emulator.fault("submit", Blackhole())
    async with connect() as session:
        submitting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
        await seen(emulator, "submit")
        await session.aclose()
        with pytest.raises(SubmissionUnknown):
            await submitting
        assert len(session.unknown_submissions) == 1


async def test_paid_request_that_waits_for_its_turn_when_the_session_closes_is_not_sent(connect, emulator):
    """Nothing is sold behind the back of who has closed the session."""
    emulator.fault("submit", Blackhole())
    async with connect(max_submits=1) as session:
        submitting = [asyncio.create_task(session.submit(prompt, model="flux-pro")) for prompt in ("first", "second")]
        await seen(emulator, "submit")
        await session.aclose()
        outcomes = await asyncio.gather(*submitting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SubmissionUnknown, TransportError]
    assert emulator.ledger.sold == {"first": 1}


@pytest.mark.parametrize("turns", range(12))
async def test_session_closed_in_any_moment_of_a_submit_loses_no_sale(connect, emulator, turns):
    """The outcome is a task that can be resumed, or a doubt; in no case an error that looks harmless."""
    async with connect(polling=SLOW) as session:
        session.task("ldtask_other")  # keeps the poller busy, so that closing takes a few turns of the loop
        submitting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
        while not emulator.ledger.sold:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        await session.aclose()
        (outcome,) = await asyncio.gather(submitting, return_exceptions=True)
    if isinstance(outcome, SubmissionUnknown):
        return
    with pytest.raises(SessionError, match="the session was closed while the task was") as caught:
        await outcome
    assert caught.value.resume_token == outcome.resume_token()


async def test_close_in_a_cancelled_scope_is_finished_all_the_same(connect, emulator):
    """The block ends when everything is closed, also where every other `await` would be cancelled."""
    emulator.fault("poll", Blackhole())
    async with connect() as session:
        await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await session.aclose()
        assert session._engine.transport._keep_alive.closed
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("lemon_async")]


async def test_request_that_waits_to_be_sent_again_hears_of_the_close(connect, emulator, caplog):
    """Not when its wait is over: at once."""
    caplog.set_level("WARNING", logger="lemon_async")
    emulator.fault("submit", Status(503, error={"retryable": True}))
    retry = RetryPolicy(max_elapsed_s=500, first_backoff_s=100, max_backoff_s=100)
    async with asyncio.timeout(5), connect(retry=retry) as session:
        submitting = asyncio.create_task(session.submit("a cat", model="flux-pro"))
        while "sending a paid request again" not in caplog.text:
            await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(TransportError, match="nothing was sold: the session is closed"):
            await submitting


async def test_close_that_has_no_time_to_wait_still_closes_everything(connect, emulator):
    """Connections of paid requests, of others and of downloads: none is left out because another took long."""
    emulator.fault("poll", Blackhole())
    async with connect(timeouts=Timeouts(close_s=1e-6)) as session:
        images = await session.generate("a cat", model="dall-e-3")
        await images[0].read()
        await session.submit("a dog", model="flux-pro")
        await seen(emulator, "poll")
        assert emulator.connections == 2
        await session.aclose()
    async with asyncio.timeout(5):
        while emulator.connections:
            await asyncio.sleep(0)


async def test_close_is_bounded_by_its_timeout(connect, emulator):
    emulator.fault("poll", Blackhole())
    async with connect(timeouts=Timeouts(close_s=0.01)) as session:
        await session.submit("a cat", model="flux-pro")
        await seen(emulator, "poll")
        async with asyncio.timeout(1):
            await session.aclose()


# Loops and processes


def test_session_outside_a_coroutine_is_told_what_to_do():
    with pytest.raises(SessionError, match="use the session inside a coroutine: it needs a running event loop"):
        LemonSession("sk-x").task("ldtask_1")


def test_session_of_another_loop_is_told_what_to_do():
    session = LemonSession("sk-x", base_url="http://127.0.0.1:1")

    async def bind():
        session.as_completed([])

    async def use():
        await session.submit("a cat")

    asyncio.run(bind())
    with pytest.raises(SessionError, match="belongs to another event loop; make one in each loop"):
        asyncio.run(use())
    with pytest.raises(SessionError, match="belongs to another event loop"):
        asyncio.run(session.aclose())


async def test_pictures_are_read_in_the_loop_of_their_session(connect):
    """Their connections belong to it."""

    async def read(image):
        return await image.read()

    async with connect() as session:
        images = await session.generate("a cat", model="dall-e-3")
        with pytest.raises(SessionError, match="belongs to another event loop"):
            await asyncio.to_thread(asyncio.run, read(images[0]))
        assert (await images[0].read()).startswith(b"\x89PNG")


def test_session_closed_in_its_loop_stays_closed_in_another():
    """Closing again, anywhere, is no error."""
    session = LemonSession("sk-x", base_url="http://127.0.0.1:1")

    async def use():
        async with session:
            pass

    asyncio.run(use())
    asyncio.run(session.aclose())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_session_made_before_a_fork_is_told_what_to_do():
    """Two processes on the connections of one would read each other's answers."""
    script = """
        import asyncio, os
        from lemon_async import LemonSession
        from lemon_async.errors import SessionError

        session = LemonSession("sk-x", base_url="http://127.0.0.1:1")

        async def use():
            try:
                await session.submit("a cat")
            except SessionError as misuse:
                print(misuse, flush=True)

        child = os.fork()
        if child == 0:
            asyncio.run(use())
            os._exit(0)
        os.waitpid(child, 0)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "the session was made before a fork; make one in each process\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("option", "kind"), [("polling", "PollPolicy"), ("retry", "RetryPolicy"), ("timeouts", "Timeouts")]
)
def test_setting_of_a_wrong_type_is_refused_before_anything_is_sold(option, kind):
    """A dictionary that looks like a policy would otherwise fail after the sale."""
    with pytest.raises(ContractError, match=f"{option}: must be a {kind}, not"):
        LemonSession("sk-x", **{option: {"min_gap_s": 1}})


async def test_two_sales_under_one_id_keep_their_own_requests(connect, emulator):
    """A service that answers two submits with one id has one task; each caller has a handle of its own."""
    emulator.fault("submit", Answer(task_id="ldtask_same", id="ldtask_same", poll_url=None), Stuck())
    async with connect() as session:
        handles = [await session.submit(prompt, model="flux-pro") for prompt in ("one", "two")]
        assert [handle.request.prompt for handle in handles] == ["one", "two"]
        assert session.pending == tuple(handles)
        assert session.task("ldtask_same") is handles[1]


async def test_what_is_no_task_is_not_waited_for(connect):
    """The usual slip is a coroutine that nobody awaited."""
    async with connect() as session:
        with pytest.raises(ContractError, match=r"tasks: must be tasks, as `await session.submit\(...\)`.*not str"):
            session.as_completed(["ldtask_1"])


async def test_prompt_of_a_megabyte_is_sent_without_a_warning(connect, emulator):
    """Long bodies go out piece by piece; the emulator, as strict as the service, refuses this one."""
    async with connect() as session:
        with pytest.raises(BadRequest, match="at most 4000 characters"):
            await session.submit("a cat " * 170_000, model="flux-pro")


@pytest.mark.parametrize("model", [123, ["a"], True], ids=repr)
async def test_job_of_a_model_that_is_no_text_is_polled_like_any_other(serve, http_ok, model):
    """Nobody checked it, and the service took it: it is paid for."""
    sold = http_ok(b'{"task_id": "ldtask_1", "status": "pending"}')
    done = http_ok(b'{"task_id": "ldtask_1", "status": "completed", "data": [{"url": "https://cdn.test/1.png"}]}')
    server = await serve(sold, done)
    polling = PollPolicy(min_gap_s=0.001, max_gap_s=0.005)
    async with LemonSession("sk-x", base_url=server.origin, check_contracts=False, polling=polling) as session:
        assert len(await session.generate("a cat", model=model)) == 1
        assert session.submission_counts.settled == 1


async def test_what_was_learned_is_taken_over_by_the_next_session(connect):
    """Through JSON, as a file holds it; nothing learned yet is a state like any other."""
    async with connect(learned_durations={}, requests_per_minute=None) as session:
        assert session.requests_per_minute is None
        await session.generate("a cat", model="flux-pro")
        learned = orjson.loads(orjson.dumps(session.learned_durations))
    async with connect(learned_durations=learned, requests_per_minute=600) as session:
        assert session.learned_durations == learned
        assert session.requests_per_minute == 600
    with pytest.raises(ContractError, match="learned_durations: is no export"):
        LemonSession("sk-x", learned_durations={"version": 0})


def test_request_is_validated_without_a_session_and_without_its_contract():
    """The label is a rule of this library: it holds even unchecked."""
    assert [problem.field for problem in LemonSession.validate("a cat", n=0, label="")] == ["n", "label"]
    assert [problem.field for problem in LemonSession.validate("a cat", n=0, label="", check_contracts=False)] == [
        "label"
    ]
