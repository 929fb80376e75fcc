"""Jobs run together, are reported as they end, and none ends another."""

import asyncio
import contextlib
import errno
import io
from functools import partial

import attrs
import orjson
import pytest

from lemon_async import (
    ContractError,
    DownloadError,
    GenerateRequest,
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
    TaskError,
    TaskTimeout,
    TransportError,
)
from lemon_async.cli.console import Notes
from lemon_async.cli.destination import Destination
from lemon_async.cli.jobs import Job, exit_code_of, run, worst
from lemon_async.cli.outputs import Delivery
from lemon_async.emulator import Blackhole, Expire, Fail, Latency, Reset, Status, Stuck
from lemon_async.errors import SessionError, TaskFailed, TaskLost

PICK_UP = "lemon-async task -o ."


@pytest.fixture
async def session(emulator):
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)
    retry = RetryPolicy(max_elapsed_s=0)
    async with LemonSession(emulator.api_key, base_url=emulator.base_url, polling=polling, retry=retry) as session:
        yield session


@attrs.frozen
class Jobs:
    """Makes jobs from prompts, for a model that answers with a task or for one that does not."""

    session: LemonSession

    def __call__(self, *prompts, model="flux-pro"):
        requests = [GenerateRequest(prompt, model=model) for prompt in prompts]
        return [Job(r.prompt, partial(self.session.submit, r), place, r) for place, r in enumerate(requests)]


@pytest.fixture
def jobs(session):
    return Jobs(session)


@pytest.fixture
def delivery(tmp_path):
    """Make deliveries into a folder that is there."""
    destination = Destination.prepare(f"{tmp_path}/out/", jobs=9)

    def make(**options):
        return Delivery(**{"destination": destination, "pick_up": PICK_UP, **options})

    return make


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContractError(problems=()), 2),
        (ValueError("speed must be above 0"), 2),
        (SubmissionUnknown(request=None, fingerprint="f", reason="r"), 3),
        (TaskTimeout(reason="r"), 4),
        (TaskFailed(reason="r"), 1),
        (TaskLost(reason="r"), 1),
        (TaskError(reason="r"), 1),
        (TransportError(message="m"), 1),
        (SessionError(message="m"), 1),
        (DownloadError(url="u", reason="r"), 1),
        (OSError(28, "No space left on device"), 1),
    ],
    ids=repr,
)
def test_exit_code_tells_a_script_what_kind_of_failure_it_was(error, code):
    assert exit_code_of(error) == code


async def test_saved_paths_go_to_stdout_and_the_rest_to_stderr(session, delivery, jobs, folder, capsys):
    assert await run(session, jobs("a cat", "a dog"), delivery()) == 0
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [str(folder / "a-cat.png"), str(folder / "a-dog.png")]
    assert names(folder) == ["a-cat.png", "a-dog.png"]
    assert err.count("accepted as ldtask_") == 2


async def test_inline_answers_have_nothing_to_be_accepted_as(session, delivery, jobs, capsys):
    assert await run(session, jobs("a cat", model="dall-e-3"), delivery()) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("codes", "code"), [([0], 0), ([0, 2], 2), ([2, 1, 0], 1), ([1, 4], 4), ([3, 4, 1], 3)])
def test_worst_code_is_the_one_a_script_should_hear_of(codes, code):
    assert worst(codes) == code


@pytest.mark.parametrize(("prompts", "code"), [("fine", 0), ("fine refused", 1), ("refused fine unknown", 3)])
async def test_exit_code_is_that_of_the_worst_job_and_the_others_are_saved(
    jobs, delivery, folder, emulator, prompts, code
):
    emulator.fault("submit", Status(402), prompt="refused")
    emulator.fault("submit", Reset("request_end"), prompt="unknown")
    assert await run(jobs.session, jobs(*prompts.split()), delivery()) == code
    assert names(folder) == ["fine.png"]


async def test_errors_are_told_with_the_prompt(session, delivery, jobs, emulator, capsys):
    emulator.fault("submit", Status(402, error={"hint": "Top up."}))
    assert await run(session, jobs("a cat"), delivery()) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: a cat: HTTP 402 insufficient_balance: Insufficient balance.; Top up.; request id ")


async def test_job_without_a_label_is_called_by_what_was_really_asked_for(session, delivery, folder):
    """A task that is picked up has no prompt; the service remembers one."""
    task = await session.submit("the old prompt", model="flux-pro")

    async def resume():
        return task

    assert await run(session, [Job("", resume)], delivery()) == 0
    assert names(folder) == ["the-old-prompt.png"]


@pytest.mark.parametrize("pick_up", [PICK_UP, ""], ids=["service", "emulator"])
async def test_unfinished_task_is_told_with_the_command_that_picks_it_up(emulator, delivery, capsys, pick_up):
    """Where there is one: the emulator of a command ends with it."""
    emulator.fault("submit", Stuck())
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=0.03)
    async with LemonSession(emulator.api_key, base_url=emulator.base_url, polling=polling) as session:
        job = Job("a cat", partial(session.submit, "a cat", model="flux-pro"), 7)
        assert await run(session, [job], delivery(pick_up=pick_up)) == 4
    (err,) = capsys.readouterr().err.splitlines()
    assert err.startswith("error: a cat: task ldtask_")
    assert "session.task" not in err  # that is advice for Python
    assert (f"; to pick it up again: {PICK_UP} ldtask_" in err) is bool(pick_up)
    assert err.endswith(":7:a-cat") is bool(pick_up)


async def test_picture_that_cannot_be_fetched_is_told_with_its_link(session, delivery, jobs, emulator, capsys):
    emulator.fault("cdn", Expire())
    assert await run(session, jobs("a cat"), delivery()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: a cat: could not fetch http://127.0.0.1:" in err
    assert f"the picture is paid for; its link, good for some hours: {emulator.base_url}/cdn/" in err


async def test_picture_that_cannot_be_saved_is_told_with_its_link(session, delivery, jobs, folder, emulator, capsys):
    """The disk's fault leaves the way to the paid picture."""
    folder.rmdir()
    folder.touch()
    assert await run(session, jobs("a cat"), delivery()) == 1
    err = capsys.readouterr().err
    assert f"error: a cat: could not save '{folder}/a-cat': " in err
    assert f"its link, good for some hours: {emulator.base_url}/cdn/" in err


async def test_picture_without_a_link_that_cannot_be_saved_has_none_to_tell(session, delivery, folder, capsys):
    folder.rmdir()
    folder.touch()
    submit = partial(session.submit, "a cat", model="dall-e-3", response_format="b64_json")
    assert await run(session, [Job("a cat", submit)], delivery()) == 1
    assert "paid for" not in capsys.readouterr().err


async def test_job_that_fails_in_a_way_of_its_own_ends_no_other(session, delivery, jobs, folder, capsys):
    """A mistake of ours costs one job, not all that is paid for."""

    async def fail():
        raise KeyError

    assert await run(session, [Job("odd", fail), *jobs("a cat")], delivery()) == 1
    assert names(folder) == ["a-cat.png"]
    assert "error: odd: KeyError\n" in capsys.readouterr().err


async def test_only_so_many_jobs_are_out_at_once(session, delivery, jobs, emulator):
    emulator.fault("submit", Stuck(), times=2)
    running = asyncio.create_task(run(session, jobs("a", "b", "c", "d"), delivery(), in_flight=3))
    async with asyncio.timeout(5):
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
async def test_bar_counts_jobs_on_a_terminal_unless_it_is_not_wanted(session, delivery, jobs, emulator, has_bar):
    emulator.fault("submit", Status(402), prompt="refused")
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        assert await run(session, jobs("fine", "refused"), delivery(), has_bar=has_bar) == 1
    assert ("| 2/2 [" in terminal.getvalue()) is has_bar
    assert ("1 failed" in terminal.getvalue()) is has_bar


async def test_json_is_a_line_for_each_picture_and_failure(session, delivery, jobs, folder, emulator, capsys):
    """Errors are told on stderr, too."""
    emulator.fault("submit", Fail("mo\x1bderated"), prompt="refused")
    assert await run(session, jobs("a cat", "refused"), delivery(as_json=True)) == 1
    out, err = capsys.readouterr()
    records = {record["index"]: record for record in map(orjson.loads, out.splitlines())}
    assert out.replace("\n", "").isprintable()
    assert records[1]["error"]["type"] == "TaskFailed"
    assert records[1]["resume_token"]
    assert "error: refused: task " in err
    assert sorted(records) == [0, 1]


async def test_json_of_a_picture_that_was_not_saved_has_its_link(session, delivery, jobs, emulator, capsys):
    emulator.fault("cdn", Expire())
    assert await run(session, jobs("a cat"), delivery(as_json=True)) == 1
    (line,) = capsys.readouterr().out.splitlines()
    record = orjson.loads(line)
    assert record["error"]["type"] == "DownloadError"
    assert record["url"].startswith(f"{emulator.base_url}/cdn/")
    assert record["resume_token"]


async def test_usage_that_no_json_can_hold_is_left_out(session, delivery, jobs, monkeypatch, capsys):
    """The service may say anything; the path is worth more."""
    deep = []
    for _ in range(300):
        deep = [deep]
    monkeypatch.setattr("lemon_async.cli.outputs.picture_record", lambda *_, **__: {"path": "p", "usage": deep})
    assert await run(session, jobs("a cat"), delivery(as_json=True)) == 0
    assert capsys.readouterr().out == '{"path":"p","usage":null}\n'


async def test_sheet_shows_what_became_of_every_job(session, delivery, jobs, folder, emulator, capsys):
    """In the order of the jobs, failures included; its path is told on stderr."""
    emulator.fault("submit", Status(402), prompt="refused")
    sheet = folder / "sheet.html"
    assert await run(session, jobs("refused", "a cat"), delivery(sheet=sheet)) == 1
    out, err = capsys.readouterr()
    assert out == f"{folder}/a-cat.png\n"
    assert err.endswith(f"sheet: {sheet}\n")
    html = sheet.read_text()
    assert 0 < html.index("refused") < html.index("a cat")
    assert "insufficient_balance" in html
    assert 'href="a-cat.png"' in html


async def test_sheet_that_cannot_be_written_is_a_failure_of_its_own(session, delivery, jobs, folder, capsys):
    assert await run(session, jobs("a cat"), delivery(sheet=folder / "a-cat.png" / "sheet.html")) == 1
    out, err = capsys.readouterr()
    assert out == f"{folder}/a-cat.png\n"
    assert "error: --sheet: could not save " in err


class BrokenOutput(io.StringIO):
    """An output that cannot take what is written to it: a closed pipe, a terminal without the characters."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        if text:
            raise self.error
        return super().write(text)


async def test_path_that_cannot_be_printed_ends_no_other_job(jobs, delivery, folder, emulator, capsys):
    """As with `lemon-async generate ... > list`, on a full disk."""
    error = OSError(errno.ENOSPC, "No space left on device")
    with contextlib.redirect_stdout(BrokenOutput(error)):
        assert await run(jobs.session, jobs("a cat", "a dog"), delivery()) == 1
    assert names(folder) == ["a-cat.png", "a-dog.png"]
    assert emulator.ledger.settled == {"a cat": 1, "a dog": 1}
    err = capsys.readouterr().err
    assert all(f"error: {folder}/{name}.png: {error}" in err for name in ("a-cat", "a-dog"))
    assert "paid for" not in err


async def test_path_that_stdout_has_no_characters_for_is_escaped(session, delivery, jobs, folder, capsys):
    """Neither the picture nor its line is lost."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(output):
        assert await run(session, jobs("猫"), delivery()) == 0
    assert output.buffer.getvalue() == f"{folder}/\\u732b.png\n".encode()
    assert names(folder) == ["猫.png"]
    assert "error" not in capsys.readouterr().err


CLOSED = "note: stdout was closed: nothing more is submitted; what was sold is still waited for and saved\n"


@pytest.mark.parametrize("as_json", [False, True])
async def test_nothing_more_is_submitted_once_the_reader_of_stdout_has_gone(
    jobs, delivery, folder, emulator, capsys, as_json
):
    """As with `lemon-async generate ... | head -1`: what was sold is saved, and there is one message for all of it."""
    with contextlib.redirect_stdout(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
        prompts = ("a", "b", "c", "d")
        assert await run(jobs.session, jobs(*prompts), delivery(as_json=as_json), in_flight=2) == 141
    assert names(folder) == ["a.png", "b.png"]
    assert emulator.ledger.settled == {"a": 1, "b": 1}
    err = capsys.readouterr().err
    assert err.count("stdout was closed") == 1
    assert [line for line in err.splitlines(keepends=True) if "accepted" not in line] == [CLOSED]


async def test_failures_that_cannot_be_printed_end_the_submitting_too(jobs, delivery, emulator, capsys):
    """The exit code is that of the failure, which is graver."""
    emulator.fault("submit", Status(402))
    with contextlib.redirect_stdout(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
        assert await run(jobs.session, jobs("a", "b", "c"), delivery(as_json=True), in_flight=1) == 1
    assert len(emulator.requests) == 1
    assert CLOSED in capsys.readouterr().err


async def test_request_that_is_on_its_way_when_the_reader_goes_is_waited_for(jobs, delivery, folder, emulator):
    """It may have been sold: cancelled, it would be a doubt instead of a picture."""
    emulator.fault("submit", Latency(100), prompt="slow")
    with contextlib.redirect_stdout(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
        assert await run(jobs.session, jobs("slow", "quick", model="dall-e-3"), delivery(), in_flight=2) == 141
    assert jobs.session.unknown_submissions == ()
    assert names(folder) == ["quick.png", "slow.png"]
    assert emulator.ledger.settled == {"quick": 1, "slow": 1}


async def test_requests_that_wait_for_the_rate_limit_are_withdrawn_when_the_reader_has_gone(
    delivery, emulator, folder, capsys
):
    """All are out at once, and the account allows one a second; only what was sent is bought."""
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)
    async with LemonSession(
        emulator.api_key, base_url=emulator.base_url, polling=polling, requests_per_minute=1
    ) as session:
        with contextlib.redirect_stdout(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
            async with asyncio.timeout(5):
                assert await run(session, Jobs(session)("a", "b", "c", model="dall-e-3"), delivery()) == 141
        assert session.unknown_submissions == ()
    assert len(emulator.ledger.settled) == 1
    assert len(names(folder)) == 1
    assert CLOSED in capsys.readouterr().err


async def test_stderr_that_nobody_reads_costs_no_picture(jobs, delivery, folder, emulator, capsys):
    """`lemon-async generate ... 2>&1 | head -1`: jobs that were sold are waited for, and only a failure is one."""
    emulator.fault("submit", Status(402), prompt="refused")
    with contextlib.redirect_stderr(BrokenOutput(BrokenPipeError(errno.EPIPE, "Broken pipe"))):
        assert await run(jobs.session, jobs("a cat", "a dog"), delivery()) == 0
        assert await run(jobs.session, jobs("refused", "a bird"), delivery()) == 1
    assert names(folder) == ["a-bird.png", "a-cat.png", "a-dog.png"]
    assert emulator.ledger.settled == {"a cat": 1, "a dog": 1, "a bird": 1}
    assert len(capsys.readouterr().out.splitlines()) == 3


async def interrupt(running, *, until):
    async with asyncio.timeout(5):
        while not until():
            await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("pick_up", [PICK_UP, ""], ids=["service", "emulator"])
async def test_interrupted_jobs_are_listed_with_the_command_that_picks_them_up(
    jobs, delivery, emulator, capsys, caplog, pick_up
):
    """What goes on at the service is told, once; what ends with the emulator, too."""
    emulator.fault("submit", Stuck())
    running = asyncio.create_task(run(jobs.session, jobs("a cat", "a dog"), delivery(pick_up=pick_up)))
    await interrupt(running, until=lambda: len(jobs.session.pending) == 2)
    ids = [task.id for task in jobs.session.pending]
    told = capsys.readouterr().err.partition("interrupted; ")[2]
    if pick_up:
        assert told.splitlines() == [
            "these tasks go on and are billed. To pick them up again:",
            f"  lemon-async task -o . {ids[0]}:0:a-cat {ids[1]}:1:a-dog",
        ]
    else:
        assert told == f"the emulator ends with this command, and with it: {' '.join(ids)}\n"
    await jobs.session.aclose()
    assert caplog.messages == []


async def test_interrupted_jobs_leave_a_sheet_of_what_was_done(session, delivery, jobs, folder, emulator, capsys):
    emulator.fault("submit", Stuck(), prompt="a dog")
    sheet = folder / "sheet.html"
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        running = asyncio.create_task(run(session, jobs("a dog", "a cat"), delivery(sheet=sheet)))
        await interrupt(running, until=stdout.getvalue)
    err = capsys.readouterr().err
    assert err.count(f"\n  {PICK_UP} ldtask_") == 1
    assert err.endswith(f"sheet: {sheet}\n")
    assert "a cat" in sheet.read_text()


async def test_interrupted_jobs_that_have_ended_nowhere_leave_no_sheet(session, delivery, jobs, folder, emulator):
    emulator.fault("submit", Stuck())
    running = asyncio.create_task(run(session, jobs("a dog"), delivery(sheet=folder / "sheet.html")))
    await interrupt(running, until=lambda: session.pending)
    assert names(folder) == []


async def test_interrupted_download_is_told_with_the_command_that_picks_its_task_up(
    session, delivery, jobs, folder, emulator, capsys
):
    """The task is over, and its picture is not saved yet."""
    emulator.fault("cdn", Blackhole())
    running = asyncio.create_task(run(session, jobs("a cat"), delivery()))
    await interrupt(running, until=lambda: any(seen.route == "cdn" for seen in emulator.requests))
    assert session.pending == ()
    assert f"\n  {PICK_UP} ldtask_" in capsys.readouterr().err
    assert names(folder) == []


async def test_interrupted_download_of_an_inline_answer_is_told_with_its_link(
    session, delivery, jobs, emulator, capsys
):
    emulator.fault("cdn", Blackhole())
    running = asyncio.create_task(run(session, jobs("a cat", model="dall-e-3"), delivery()))
    await interrupt(running, until=lambda: any(seen.route == "cdn" for seen in emulator.requests))
    assert f"its link, good for some hours: {emulator.base_url}/cdn/" in capsys.readouterr().err


async def test_interrupted_paid_request_is_told_to_be_in_doubt(session, delivery, jobs, emulator, capsys, caplog):
    """The library warns of it, and the command prints what the library warns of."""
    emulator.fault("submit", Blackhole())
    running = asyncio.create_task(run(session, jobs("a cat"), delivery()))
    await interrupt(running, until=lambda: emulator.ledger.sold)
    (record,) = caplog.records
    Notes().emit(record)
    err = capsys.readouterr().err
    assert err.startswith("note: the paid request was sent, but its outcome is unknown: cancelled while waiting")
    assert "interrupted" not in err
