"""Jobs run together, are reported as they end, and none ends another."""

import asyncio
import contextlib
import errno
import io

import attrs
import orjson
import pytest

from lemon_async import GenerateRequest, LemonSession, PollPolicy, RetryPolicy, Timeouts
from lemon_async.cli import jobs
from lemon_async.cli.arguments import Reference
from lemon_async.cli.console import EventPrinter, LogPrinter
from lemon_async.cli.destination import Destination
from lemon_async.cli.jobs import resume_tasks, submit_requests
from lemon_async.cli.outputs import Outputs
from lemon_async.emulator import Blackhole, Expire, Fail, Latency, Reset, Status, Stuck

RESUME = "lemon-async task -o ."


@pytest.fixture
async def session(emulator):
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)
    options = {"retry": RetryPolicy(max_elapsed_s=0), "timeouts": Timeouts(close_s=0.2)}
    options |= {"polling": polling, "on_event": EventPrinter()}
    async with LemonSession(emulator.api_key, base_url=emulator.base_url, **options) as session:
        yield session


def requests(*prompts, model="flux-pro", **fields):
    """Return requests for a model with tasks, or for one with inline responses."""
    return [GenerateRequest(prompt, model=model, **fields) for prompt in prompts]


@pytest.fixture
def outputs(tmp_path):
    """Create outputs into an existing folder."""
    destination = Destination.prepare(f"{tmp_path}/out/", jobs=9)

    def make(**options):
        return Outputs(**{"destination": destination, "resume_command": RESUME, **options})

    return make


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


async def test_saved_paths_go_to_stdout_and_the_rest_to_stderr(session, outputs, folder, capsys):
    assert await submit_requests(session, requests("a cat", "a dog"), outputs()) == 0
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [str(folder / "a-cat.png"), str(folder / "a-dog.png")]
    assert names(folder) == ["a-cat.png", "a-dog.png"]
    assert err.count("accepted as ldtask_") == 2


async def test_inline_answers_have_nothing_to_be_accepted_as(session, outputs, capsys):
    assert await submit_requests(session, requests("a cat", model="dall-e-3"), outputs()) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("prompts", "code"), [("fine", 0), ("fine refused", 1), ("refused fine unknown", 3)])
async def test_exit_code_is_that_of_the_worst_job(session, outputs, folder, emulator, prompts, code):
    emulator.fault("submit", Status(402), prompt="refused")
    emulator.fault("submit", Reset("request_end"), prompt="unknown")
    assert await submit_requests(session, requests(*prompts.split()), outputs()) == code
    assert names(folder) == ["fine.png"]


async def test_error_is_printed_with_the_prompt(session, outputs, emulator, capsys):
    emulator.fault("submit", Status(402, error={"hint": "Top up."}))
    assert await submit_requests(session, requests("a cat"), outputs()) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: a cat: HTTP 402 insufficient_balance: Insufficient balance; Top up; request id ")


async def test_refusals_of_the_account_leave_the_other_prompts_unsubmitted(session, outputs, folder, emulator, capsys):
    """One line says how many, and what was accepted is saved."""
    emulator.fault("submit", Status(402, message="Broke."), prompt="^p([1-9]|..)")
    wishes = requests(*(f"p{number}" for number in range(50)))
    assert await submit_requests(session, wishes, outputs(), in_flight=1) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert [line.partition(": HTTP")[0] for line in lines if "error" in line] == ["error: p1", "error: p2", "error: p3"]
    assert last.startswith(
        "error: 46 of 50 prompts were not submitted (the first is 'p4'): HTTP 402 insufficient_balance: Broke"
    )
    assert names(folder) == ["p0.png"]
    assert sum(request.route == "submit" for request in emulator.requests) == 4


async def test_refusals_of_all_prompts_leave_nothing_to_say(session, outputs, emulator, capsys):
    emulator.fault("submit", Status(402, message="Broke."))
    assert await submit_requests(session, requests("a", "b", "c"), outputs()) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3


async def test_resumed_task_is_saved_under_the_prompt_that_the_service_remembers(session, outputs, folder):
    task = await session.submit("the old prompt", model="flux-pro")
    assert await resume_tasks([(task, Reference(task.id))], session, outputs()) == 0
    assert names(folder) == ["the-old-prompt.png"]


@pytest.mark.parametrize("resume_command", [RESUME, ""], ids=["service", "emulator"])
async def test_unfinished_task_is_reported_with_the_command_that_resumes_it(emulator, outputs, capsys, resume_command):
    """With an emulator, which ends with the command, there is none."""
    emulator.fault("submit", Stuck())
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=0.03)
    async with LemonSession(emulator.api_key, base_url=emulator.base_url, polling=polling) as session:
        wishes = requests("a cat", "a dog", n=7)
        assert await submit_requests(session, wishes, outputs(resume_command=resume_command)) == 4
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: a dog: task ldtask_")]
    assert len(errors) == 1
    assert "session.task" not in errors[0]  # that is advice for Python
    assert (f"; to resume it: {RESUME} ldtask_" in errors[0]) is bool(resume_command)
    assert errors[0].endswith(":7:a-dog") is bool(resume_command)


async def test_picture_that_cannot_be_fetched_is_reported_with_its_link(session, outputs, emulator, capsys):
    emulator.fault("cdn", Expire())
    assert await submit_requests(session, requests("a cat"), outputs()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: a cat: could not fetch http://127.0.0.1:" in err
    assert f"the picture is paid for; its link, valid for some hours: {emulator.base_url}/cdn/" in err


async def test_picture_that_cannot_be_saved_is_reported_with_its_link(session, outputs, folder, emulator, capsys):
    """A full disk does not hide the picture that is paid for."""
    folder.rmdir()
    folder.touch()
    assert await submit_requests(session, requests("a cat"), outputs()) == 1
    err = capsys.readouterr().err
    assert f"error: a cat: could not save '{folder}" in err
    assert f"its link, valid for some hours: {emulator.base_url}/cdn/" in err


async def test_picture_without_a_link_that_cannot_be_saved_has_none_to_print(session, outputs, folder, capsys):
    folder.rmdir()
    folder.touch()
    wishes = requests("a cat", model="dall-e-3", response_format="b64_json")
    assert await submit_requests(session, wishes, outputs()) == 1
    assert "paid for" not in capsys.readouterr().err


@attrs.frozen
class Odd:
    """A destination with a bug in it."""

    destination: Destination

    async def save(self, images, *, label, **options):
        if label == "odd":
            raise KeyError
        return await self.destination.save(images, label=label, **options)


async def test_bug_in_one_job_ends_no_other(session, outputs, folder, capsys):
    """A bug costs one job, not all that are paid for."""
    odd = Odd(outputs().destination)
    assert await submit_requests(session, requests("odd", "a cat"), outputs(destination=odd)) == 1
    assert names(folder) == ["a-cat.png"]
    assert "error: odd: KeyError\n" in capsys.readouterr().err


async def test_in_flight_bounds_the_jobs_that_run(session, outputs, emulator):
    emulator.fault("submit", Stuck(), prompt="^[ab]$")
    running = asyncio.create_task(submit_requests(session, requests("a", "b", "c", "d"), outputs(), in_flight=3))
    async with asyncio.timeout(60):
        while emulator.ledger.settled != {"c": 1, "d": 1}:  # one after the other, beside the two that are stuck
            assert len(session.pending) <= 3
            await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("has_bar", [True, False])
async def test_bar_counts_jobs_on_a_terminal_unless_it_is_not_wanted(session, outputs, emulator, has_bar):
    emulator.fault("submit", Status(402), prompt="refused")
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        assert await submit_requests(session, requests("fine", "refused"), outputs(), has_bar=has_bar) == 1
    assert ("| 2/2 [" in terminal.getvalue()) is has_bar
    assert ("1 failed" in terminal.getvalue()) is has_bar


async def test_json_is_a_line_for_each_picture_and_failure(session, outputs, folder, emulator, capsys):
    """Errors are printed to stderr, too."""
    emulator.fault("submit", Fail("mo\x1bderated"), prompt="refused")
    assert await submit_requests(session, requests("a cat", "refused"), outputs(as_json=True)) == 1
    out, err = capsys.readouterr()
    records = {record["index"]: record for record in map(orjson.loads, out.splitlines())}
    assert out.replace("\n", "").isprintable()
    assert records[1]["error"]["type"] == "TaskFailed"
    assert records[1]["resume_token"]
    assert "error: refused: task " in err
    assert sorted(records) == [0, 1]


async def test_json_of_a_picture_that_was_not_saved_has_its_link(session, outputs, emulator, capsys):
    emulator.fault("cdn", Expire())
    assert await submit_requests(session, requests("a cat"), outputs(as_json=True)) == 1
    (line,) = capsys.readouterr().out.splitlines()
    record = orjson.loads(line)
    assert record["error"]["type"] == "DownloadError"
    assert record["url"].startswith(f"{emulator.base_url}/cdn/")
    assert record["resume_token"]


async def test_usage_that_json_cannot_hold_is_left_out(session, outputs, monkeypatch, capsys):
    """The service's data can be anything; the path is still printed."""
    deep = []
    for _ in range(300):
        deep = [deep]
    monkeypatch.setattr("lemon_async.cli.outputs.picture_record", lambda *_, **__: {"path": "p", "usage": deep})
    assert await submit_requests(session, requests("a cat"), outputs(as_json=True)) == 0
    assert capsys.readouterr().out == '{"path":"p","usage":null}\n'


async def test_sheet_shows_the_outcome_of_every_job(session, outputs, folder, emulator, capsys):
    """In the order of the jobs, failures included; its path goes to stderr."""
    emulator.fault("submit", Status(402), prompt="refused")
    sheet = folder / "sheet.html"
    assert await submit_requests(session, requests("refused", "a cat"), outputs(sheet=sheet)) == 1
    out, err = capsys.readouterr()
    assert out == f"{folder}/a-cat.png\n"
    assert err.endswith(f"sheet: {sheet}\n")
    html = sheet.read_text()
    assert 0 < html.index("refused") < html.index("a cat")
    assert "insufficient_balance" in html
    assert 'href="a-cat.png"' in html


async def test_sheet_that_cannot_be_written_is_a_failure_of_its_own(session, outputs, folder, capsys):
    assert await submit_requests(session, requests("a cat"), outputs(sheet=folder / "a-cat.png" / "sheet.html")) == 1
    out, err = capsys.readouterr()
    assert out == f"{folder}/a-cat.png\n"
    assert "error: --sheet: could not save " in err


class BrokenOutput(io.StringIO):
    """An output that fails: a closed pipe, or an encoding without the characters."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        if text:
            raise self.error
        return super().write(text)


async def test_path_that_cannot_be_printed_ends_no_other_job(session, outputs, folder, emulator, capsys):
    """As with `lemon-async generate ... > list`, on a full disk."""
    error = OSError(errno.ENOSPC, "No space left on device")
    with contextlib.redirect_stdout(BrokenOutput(error)):
        assert await submit_requests(session, requests("a cat", "a dog"), outputs()) == 1
    assert names(folder) == ["a-cat.png", "a-dog.png"]
    assert emulator.ledger.settled == {"a cat": 1, "a dog": 1}
    err = capsys.readouterr().err
    assert all(f"error: {folder}/{name}.png: {error}" in err for name in ("a-cat", "a-dog"))
    assert "paid for" not in err


async def test_path_that_stdout_cannot_encode_is_escaped(session, outputs, folder, capsys):
    """Neither the picture nor its line is lost."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(output):
        assert await submit_requests(session, requests("猫"), outputs()) == 0
    assert output.buffer.getvalue() == f"{folder}/\\u732b.png\n".encode()
    assert names(folder) == ["猫.png"]
    assert "error" not in capsys.readouterr().err


CLOSED = "note: stdout was closed: nothing more is submitted; jobs that were submitted are saved\n"


@pytest.mark.parametrize("as_json", [False, True])
async def test_closed_stdout_ends_the_submitting(session, outputs, folder, emulator, capsys, as_json):
    """As with `lemon-async generate ... | head -1`: what was submitted is saved, and one message says so."""
    with contextlib.redirect_stdout(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
        prompts = ("a", "b", "c", "d")
        assert await submit_requests(session, requests(*prompts), outputs(as_json=as_json), in_flight=2) == 141
    assert names(folder) == ["a.png", "b.png"]
    assert emulator.ledger.settled == {"a": 1, "b": 1}
    err = capsys.readouterr().err
    assert err.count("stdout was closed") == 1
    assert [line for line in err.splitlines(keepends=True) if "accepted" not in line] == [CLOSED]


async def test_failure_that_cannot_be_printed_also_ends_the_submitting(session, outputs, emulator, capsys):
    """The exit code is that of the failure, which is more severe."""
    emulator.fault("submit", Status(402))
    with contextlib.redirect_stdout(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
        assert await submit_requests(session, requests("a", "b", "c"), outputs(as_json=True), in_flight=1) == 1
    assert len(emulator.requests) == 1
    assert CLOSED in capsys.readouterr().err


async def test_closed_stdout_waits_for_requests_in_flight(session, outputs, folder, emulator):
    """If they were cancelled, their outcome would be unknown."""
    emulator.fault("submit", Latency(100), prompt="slow")
    with contextlib.redirect_stdout(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
        assert (
            await submit_requests(session, requests("slow", "quick", model="dall-e-3"), outputs(), in_flight=2) == 141
        )
    assert session.unknown_submissions == ()
    assert names(folder) == ["quick.png", "slow.png"]
    assert emulator.ledger.settled == {"quick": 1, "slow": 1}


async def test_closed_stdout_withdraws_requests_that_wait_for_the_rate_limit(outputs, emulator, folder, capsys):
    """The account allows one a minute; requests that were not sent cost nothing."""
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)
    async with LemonSession(
        emulator.api_key, base_url=emulator.base_url, polling=polling, requests_per_minute=1
    ) as session:
        with contextlib.redirect_stdout(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
            async with asyncio.timeout(30):
                assert await submit_requests(session, requests("a", "b", "c", model="dall-e-3"), outputs()) == 141
        assert session.unknown_submissions == ()
    assert len(emulator.ledger.settled) == 1
    assert len(names(folder)) == 1
    assert CLOSED in capsys.readouterr().err


async def test_closed_stderr_costs_no_picture(session, outputs, folder, emulator, capsys):
    """`lemon-async generate ... 2>&1 | head -1`: accepted jobs are awaited and set the exit code."""
    emulator.fault("submit", Status(402), prompt="refused")
    with contextlib.redirect_stderr(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
        assert await submit_requests(session, requests("a cat", "a dog"), outputs()) == 0
        assert await submit_requests(session, requests("refused", "a bird"), outputs()) == 1
    assert names(folder) == ["a-bird.png", "a-cat.png", "a-dog.png"]
    assert emulator.ledger.settled == {"a cat": 1, "a dog": 1, "a bird": 1}
    assert len(capsys.readouterr().out.splitlines()) == 3


async def interrupt(running, *, until):
    async with asyncio.timeout(60):
        while not until():
            await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("resume_command", [RESUME, ""], ids=["service", "emulator"])
async def test_interrupted_tasks_are_listed_with_the_command_that_resumes_them(
    session, outputs, emulator, capsys, library_log, resume_command
):
    """The command lists them once, also tasks that end with the emulator."""
    emulator.fault("submit", Stuck())
    running = asyncio.create_task(
        submit_requests(session, requests("a cat", "a dog"), outputs(resume_command=resume_command))
    )
    await interrupt(running, until=lambda: len(session.pending) == 2)
    ids = [task.id for task in session.pending]
    places = {"a cat": "0:a-cat", "a dog": "1:a-dog"}  # either may be accepted first
    references = [f"{task.id}:{places[task.request.prompt]}" for task in session.pending]
    shown = capsys.readouterr().err.partition("interrupted; ")[2]
    if resume_command:
        assert shown.splitlines() == [
            "these tasks continue and are billed. To resume them:",
            f"  {RESUME} {' '.join(references)}",
        ]
    else:
        assert shown == f"these tasks end with the emulator of this command: {' '.join(ids)}\n"
    await session.aclose()
    for record in library_log.records:
        LogPrinter().emit(record)
    assert capsys.readouterr().err == ""


async def test_interrupted_jobs_leave_a_sheet_of_what_was_done(session, outputs, folder, emulator, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "_MAX_FAREWELL_S", 60.0)  # the machine may be busy
    emulator.fault("submit", Stuck(), prompt="a dog")
    sheet = folder / "sheet.html"
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        running = asyncio.create_task(submit_requests(session, requests("a dog", "a cat"), outputs(sheet=sheet)))
        await interrupt(running, until=stdout.getvalue)
    err = capsys.readouterr().err
    assert err.count(f"\n  {RESUME} ldtask_") == 1
    assert err.endswith(f"sheet: {sheet}\n")
    assert "a cat" in sheet.read_text()


async def test_interrupted_jobs_that_have_ended_nowhere_leave_no_sheet(session, outputs, folder, emulator):
    emulator.fault("submit", Stuck())
    running = asyncio.create_task(submit_requests(session, requests("a dog"), outputs(sheet=folder / "sheet.html")))
    await interrupt(running, until=lambda: session.pending)
    assert names(folder) == []


async def test_interrupted_download_is_listed_with_the_command_that_resumes_its_task(
    session, outputs, folder, emulator, capsys
):
    """The task is over, but its picture is not saved."""
    emulator.fault("cdn", Blackhole())
    running = asyncio.create_task(submit_requests(session, requests("a cat"), outputs()))
    await interrupt(running, until=lambda: any(seen.route == "cdn" for seen in emulator.requests))
    assert session.pending == ()
    assert f"\n  {RESUME} ldtask_" in capsys.readouterr().err
    assert names(folder) == []


async def test_interrupted_download_of_an_inline_answer_is_reported_with_its_link(session, outputs, emulator, capsys):
    emulator.fault("cdn", Blackhole())
    running = asyncio.create_task(submit_requests(session, requests("a cat", model="dall-e-3"), outputs()))
    await interrupt(running, until=lambda: any(seen.route == "cdn" for seen in emulator.requests))
    assert f"its link, valid for some hours: {emulator.base_url}/cdn/" in capsys.readouterr().err


async def test_interrupted_paid_request_is_reported_as_unknown(session, outputs, emulator, capsys, library_log):
    """Once, although the library warns of it, too."""
    emulator.fault("submit", Blackhole())
    running = asyncio.create_task(submit_requests(session, requests("a cat"), outputs()))
    await interrupt(running, until=lambda: emulator.ledger.sold)
    (record,) = library_log.records
    LogPrinter().emit(record)
    err = capsys.readouterr().err
    head, note = err.splitlines()
    assert head == "interrupted; waiting up to 5 s for responses to paid requests"
    assert note.startswith("note: the paid request was sent, but its outcome is unknown: cancelled while waiting")
