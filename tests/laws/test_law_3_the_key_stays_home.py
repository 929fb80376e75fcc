"""Law 3. The key goes to the API's origin, and nowhere else."""

import base64
import logging
import os
import pickle
import subprocess
import sys
import textwrap

import pytest

from lemon_async import ContractError, DownloadError, LemonSession, PollPolicy, SubmissionUnknown
from lemon_async.emulator import Answer, Fail, Redirect, Result, Status
from lemon_async.errors import AccessDenied, AuthenticationError, TaskFailed

CANARY = "sk-canary-0123456789abcdef"
GATEWAY_CANARY = "gw-canary-fedcba9876543210"

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=120)

HOSTILE = {
    "other host": "//{other_server}/v1/tasks/x",
    "backslash": "/\\{other_server}/v1/tasks/x",
    "backslashes": "\\\\{other_server}\\v1",
    "credentials": "{origin}@{other_server}/v1/tasks/x",
    "prefix": "{origin}.{other_server}/v1/tasks/x",
    "other port": "http://{other_server}/v1/tasks/x",
    "https": "https://{other_server}/v1/tasks/x",
    "encoded climb": "/v1/tasks/..%2f..%2f..%2f{other_server}",
    "twice encoded climb": "/v1/tasks/%252e%252e/x",
    "line break": "/v1/tasks/x\r\nHost: {other_server}\r\n\r\n",
    "white space": " http://{other_server}/",
    "tab": "/\t/{other_server}/",
    "script": "javascript:fetch('http://{other_server}')",
    "file": "file:///etc/passwd",
    "no scheme": "{other_server}/v1/tasks/x",
}


@pytest.mark.parametrize("form", HOSTILE)
async def test_hostile_poll_url_reaches_no_second_server_and_loses_no_job(connect, emulator, other_server, form):
    """A poll URL that leads to another server is not requested; the task is polled by its id instead."""
    poll_url = HOSTILE[form].format(other_server=other_server.authority, origin=emulator.base_url)
    emulator.fault("submit", Answer(poll_url=poll_url))
    async with connect() as session:
        assert len(await session.generate("lured", model="flux-pro")) == 1
    assert other_server.requests == []


HOSTILE_BEHIND_A_GATEWAY = {
    **HOSTILE,
    "climb": "/lemon/../admin/{other_server}",
    "encoded climb below the path": "/lemon/%2e%2e/admin/{other_server}",
    "encoded slash": "/lemon/..%2fadmin/{other_server}",
    "parameter": "/lemon/..;/admin/{other_server}",
    "absolute climb": "{gateway}/lemon/../admin",
    "other host below the path": "/lemon//{other_server}/v1/tasks/x",
    "host that begins alike": "{gateway}.{other_server}/lemon/v1/tasks/x",
    "gateway as credentials": "{gateway}@{other_server}/lemon/v1/tasks/x",
    "service behind the gateway": "{origin}/v1/tasks/x",
}


@pytest.mark.parametrize("form", HOSTILE_BEHIND_A_GATEWAY)
async def test_hostile_poll_url_reaches_nothing_outside_the_path_of_a_gateway(emulator, gateway, other_server, form):
    """Neither a second server nor another path of the gateway receives the key; the task is polled by its id."""
    places = {"other_server": other_server.authority, "origin": emulator.base_url, "gateway": gateway.origin}
    emulator.fault("submit", Answer(poll_url=HOSTILE_BEHIND_A_GATEWAY[form].format(**places)))
    headers = {"X-Gateway-Key": GATEWAY_CANARY}
    async with LemonSession(emulator.api_key, base_url=gateway.base_url, headers=headers, polling=QUICK) as session:
        assert len(await session.generate("lured", model="flux-pro")) == 1
    assert other_server.requests == []
    assert all(path.startswith("/lemon/v1/tasks/ldtask_") for path in gateway.paths[1:])


@pytest.mark.parametrize("task_id", ["../../x", "a b", "x\r\nHost: y", "", "..", "é"])
async def test_hostile_task_id_without_an_address_is_reported_as_unknown(connect, emulator, other_server, task_id):
    """A task that cannot be polled is reported as accepted, not silently dropped."""
    emulator.fault("submit", Answer(task_id=task_id, id=None, poll_url=f"//{other_server.authority}/.."))
    async with connect() as session:
        with pytest.raises(SubmissionUnknown):
            await session.submit("lost", model="flux-pro")
    assert other_server.requests == []


@pytest.mark.parametrize("route", ["submit", "poll"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_of_the_api_is_not_followed(connect, emulator, other_server, route, status):
    """Neither the body nor the key is sent to the target of a redirect."""
    emulator.fault(route, Redirect(f"http://{other_server.authority}/v1/images/generations", status), times=1)
    async with connect(headers={"X-Gateway-Key": GATEWAY_CANARY}) as session:
        if route == "submit":
            with pytest.raises(SubmissionUnknown):
                await session.generate("moved", model="flux-pro")
        else:
            await session.generate("moved", model="flux-pro")
    assert other_server.requests == []


async def test_download_carries_neither_key_nor_cookie(connect, emulator, other_server):
    """Result links and their redirects are fetched without anything that identifies the account."""
    emulator.fault("submit", Result([{"url": f"http://{other_server.authority}/a.png"}]), times=1)
    emulator.fault("cdn", Redirect(f"http://{other_server.authority}/b.png"), times=1)
    async with connect(headers={"X-Gateway-Key": GATEWAY_CANARY}) as session:
        for _ in range(2):
            images = await session.generate("mine", model="flux-pro")
            with pytest.raises(DownloadError):
                await images[0].read()
        await images[0].read()
    assert emulator.key_leaks == 0
    assert len(other_server.requests) == 2
    for head in other_server.requests:
        assert "authorization" not in head.lower()
        assert "cookie" not in head.lower()
        assert emulator.api_key not in head
        assert "gateway" not in head.lower()
        assert GATEWAY_CANARY not in head


async def test_link_to_the_api_itself_is_fetched_without_key_and_extra_headers(emulator, gateway):
    """A result link is untrusted, even if it leads to the origin of the API."""
    emulator.fault("submit", Result([{"url": f"{gateway.base_url}/cdn/a.png"}]))
    headers = {"X-Gateway-Key": GATEWAY_CANARY}
    async with LemonSession(emulator.api_key, base_url=gateway.base_url, headers=headers, polling=QUICK) as session:
        images = await session.generate("mine", model="flux-pro")
        with pytest.raises(DownloadError, match="404"):
            await images[0].read()
    (sent,) = [headers for path, headers in gateway.requests if path == "/lemon/cdn/a.png"]
    assert not {"Authorization", "X-Gateway-Key"} & set(sent)
    assert GATEWAY_CANARY not in str(sent)


@pytest.mark.parametrize("url", ["http://192.0.2.1/a.png", "ftp://127.0.0.1/a.png", "file:///etc/passwd"])
async def test_result_link_that_is_not_safe_is_not_followed(connect, emulator, url):
    """Only https is followed, and http on loopback for an API on loopback."""
    emulator.fault("submit", Result([{"url": url}]))
    async with connect() as session:
        images = await session.generate("unsafe", model="flux-pro")
        with pytest.raises(DownloadError, match="not followed"):
            await images[0].read()


@pytest.mark.parametrize(
    "base_url", ["http://api.example.com", "https://user:pw@api.example.com", "https://a.example?x=1"]
)
def test_base_url_that_would_expose_the_key_is_refused(base_url):
    """Plain http beyond loopback, credentials and queries are refused at construction."""
    with pytest.raises(ContractError, match="base_url"):
        LemonSession(CANARY, base_url=base_url)


@pytest.mark.parametrize("key", ["", "sk\r\nX: y", "sk\n", "sk\0", "sk x", "sk-é"])
def test_key_that_could_break_a_header_is_refused_without_being_quoted(key):
    """A malformed key is refused at construction, and the message does not repeat it."""
    with pytest.raises(ContractError, match="api_key") as caught:
        LemonSession(key)
    assert not key or key not in str(caught.value)


def test_key_is_in_no_repr_and_no_pickle():
    """Neither the repr of a session nor of its parts contains the key, and a session cannot be pickled."""
    session = LemonSession(CANARY, headers={"X-Gateway-Key": GATEWAY_CANARY})
    parts = (session, vars(session), vars(session._engine), vars(session._engine.transport))
    shown = [repr(thing) for thing in parts]
    assert not any(CANARY in text or GATEWAY_CANARY in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(session)


async def test_extra_header_that_a_gateway_quotes_is_masked(connect, emulator):
    """A gateway that refuses its own key may quote it in the refusal."""
    words = f"Unknown gateway key {GATEWAY_CANARY}"
    emulator.fault("submit", Status(403, message=words, headers={"X-Echo": GATEWAY_CANARY}))
    async with connect(headers={"X-Gateway-Key": f"Bearer {GATEWAY_CANARY}"}) as session:
        with pytest.raises(AccessDenied, match=r"gateway key \*\*\*") as caught:
            await session.generate("echo", model="flux-pro")
    assert GATEWAY_CANARY.encode() not in pickle.dumps(caught.value)


async def test_key_that_the_service_quotes_is_masked(connect, emulator):
    """Some services quote a wrong key in their refusal; the error and its pickle do not."""
    words = f"Incorrect API key provided: {emulator.api_key}"
    emulator.fault("submit", Status(401, message=words, headers={"X-Echo": emulator.api_key}))
    async with connect() as session:
        with pytest.raises(AuthenticationError, match=r"provided: \*\*\*") as caught:
            await session.generate("echo", model="flux-pro")
    assert emulator.api_key.encode() not in pickle.dumps(caught.value)


@pytest.mark.parametrize("how", ["poll", "stream"])
async def test_key_that_a_failed_job_quotes_is_masked(connect, emulator, picture, how):
    """The provider's refusal arrives with status 200: as the status of a task, or as an event of a stream."""
    route = "submit" if how == "poll" else "edit"
    emulator.fault(route, Fail({"code": "denied", "message": f"Incorrect API key provided: {emulator.api_key}"}))

    async def fail(session):
        if how == "poll":
            await session.generate("echo", model="flux-pro")
        async with session.stream("echo", image=picture(), model="gpt-image-2") as stream:
            _ = [image async for image in stream]

    async with connect() as session:
        with pytest.raises(TaskFailed, match=r"provided: \*\*\*") as caught:
            await fail(session)
    assert emulator.api_key.encode() not in pickle.dumps(caught.value)
    assert emulator.api_key not in repr(caught.value.task and caught.value.task.snapshot)


CANARY_SCRIPT = """
    import asyncio, base64, io, logging, pickle, sys, traceback, warnings
    from lemon_async import LemonSession, PollPolicy, RetryPolicy, Timeouts
    from lemon_async.emulator import *

    KEY = sys.stdin.readline().strip()
    KEYS = {"X-Gateway-Key": sys.stdin.readline().strip()}
    PICTURE = base64.b64decode(sys.stdin.readline())
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)

    def show(error):
        chain = traceback.TracebackException.from_exception(error, capture_locals=True)
        # The script's own frames hold the key on purpose.
        print("".join(line for line in chain.format() if "KEY" not in line))
        for seen in (error, error.__cause__, error.__context__):
            print(repr(seen), str(seen))
        try:
            print(pickle.dumps(error))
        except TypeError as refused:
            print(refused)

    async def main():
        polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.01, deadline_s=0.4, lost_after_s=0)
        options = dict(polling=polling, retry=RetryPolicy(max_elapsed_s=0),
                       timeouts=Timeouts(submit_s=0.5, request_s=0.3, download_s=0.6))
        faults = [("submit", Reset(at)) for at in ("accept", "request_head", "request_end", "response_body")]
        faults += [("submit", a) for a in (Status(401), Status(502, "html"), Garbage(), Blackhole(), Vanish(),
                                           Stuck(), Fail("no"), Result([]))]
        faults += [("poll", a) for a in (Status(403), Garbage(), Blackhole(), Reset("response_body"))]
        faults += [("cdn", a) for a in (Status(410), Garbage(), Reset("response_body"), Cut(9))]
        points = ("accept", "request_body", "response_body")
        faults += [("edit", Reset(at)) for at in points]
        faults += [("edit", a) for a in (Status(401), Status(502, "html"), Garbage(), Blackhole())]
        faults += [("edit", a) for a in (Stuck(), Fail("no"))]
        faults += [("files", a) for a in (Status(401), Reset("request_body"), Garbage(), Blackhole())]
        faults += [("models", a) for a in (Status(403), Reset("response_body"), Blackhole())]

        async def generate(lemon):
            images = await lemon.generate("canary", model="flux-pro")
            await images[0].read()

        async def edit(lemon):
            await lemon.edit("canary", image=[PICTURE, io.BytesIO(PICTURE)], model="flux-pro")

        async def edit_stored(lemon):
            stored = await lemon.files.upload(io.BytesIO(PICTURE), model="flux-pro")
            print(stored, await lemon.files.list())
            await lemon.edit("canary", image=stored, model="flux-pro")

        async def stream(lemon):
            async with lemon.stream("canary", image=PICTURE, model="gpt-image-2", partial_images=2) as stream:
                print(stream, vars(stream))
                async for picture in stream:
                    print(picture, stream)

        async def look(lemon):
            print(await lemon.model("flux-pro"), lemon.submission_counts, lemon.unknown_submissions)
            await lemon.edit("canary", image="missing.png")

        uses = {"edit": (edit, stream), "files": (edit_stored,), "models": (look,)}

        async def suffer(route, action):
            async with Emulator(speed=6000, api_key=KEY) as emulator:
                emulator.fault(route, action)
                for use in uses.get(route, (generate,)):
                    async with LemonSession(KEY, base_url=emulator.base_url, headers=KEYS, **options) as lemon:
                        print(lemon, vars(lemon), vars(lemon.files))
                        try:
                            await use(lemon)
                        except Exception as error:
                            show(error)
                        print(lemon.unknown_submissions, pickle.dumps(lemon.unknown_submissions))

        for some in range(0, len(faults), 8):  # concurrently, because most of the time is waiting
            await asyncio.gather(*(suffer(*fault) for fault in faults[some : some + 8]))
        options["timeouts"] = Timeouts()  # on a busy machine, no stream may have begun in time
        await suffer("edit", Fail("no"))
        try:
            LemonSession(KEY + "\\n", base_url="http://x.example", headers={"Host": KEYS["X-Gateway-Key"]})
        except Exception as error:
            show(error)

    asyncio.run(main())
    print("survived", file=sys.stderr)
"""


def test_key_is_in_no_output_traceback_or_pickle_whatever_fails(tmp_path, picture):
    """A process that meets every kind of fault, and prints all that it has, never prints the key."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CANARY_SCRIPT)],
        input=f"{CANARY}\n{GATEWAY_CANARY}\n{base64.b64encode(picture()).decode()}\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        timeout=300,
    )
    assert "survived" in run.stderr, run.stderr[-2000:]
    for name in ("SubmissionUnknown", "ContractError", "TransportError", "TaskFailed", "ImageStream", "read_file"):
        assert name in run.stdout
    leaks = [line for line in (run.stdout + run.stderr).splitlines() if CANARY in line or GATEWAY_CANARY in line]
    assert leaks == []
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger("lemon_async").level == logging.NOTSET
