"""Jobs run together, are reported as they end, and none ends another."""

import asyncio
import contextlib
import errno
import io
from functools import partial

import attrs
import pytest

from lemon_async import (
    ContractError,
    DownloadError,
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SessionMisuse,
    SubmissionUnknown,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskTimeout,
    TransportError,
)
from lemon_async.cli.jobs import Job, Notes, complain, exit_code_of, note, run, worst
from lemon_async.cli.output import Destination
from lemon_async.emulator import Blackhole, Expire, Reset, Status, Stuck

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
        return [Job(prompt, partial(self.session.submit, prompt, model=model)) for prompt in prompts]


@pytest.fixture
def jobs(session):
    return Jobs(session)


@pytest.fixture
def folder(tmp_path):
    return Destination.prepare(f"{tmp_path}/out/", jobs=9)


def names(destination):
    return sorted(path.name for path in destination.folder.iterdir())


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
        (SessionMisuse(message="m"), 1),
        (DownloadError(url="u", reason="r"), 1),
        (OSError(28, "No space left on device"), 1),
    ],
    ids=repr,
)
def test_exit_code_tells_a_script_what_kind_of_failure_it_was(error, code):
    assert exit_code_of(error) == code


def test_complaint_is_a_line_without_control_characters(capsys):
    complain(TransportError(message="GET /v1: \x1b[31mred\x07"), "a \x1b cat")
    complain(TransportError(message="no label"))
    assert capsys.readouterr() == ("", "error: a   cat: GET /v1:  [31mred \nerror: no label\n")


async def test_saved_paths_go_to_stdout_and_the_rest_to_stderr(session, jobs, folder, capsys):
    assert await run(session, jobs("a cat", "a dog"), folder, pick_up=PICK_UP) == 0
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [str(folder.folder / "a-cat.png"), str(folder.folder / "a-dog.png")]
    assert names(folder) == ["a-cat.png", "a-dog.png"]
    assert err.count("accepted as ldtask_") == 2


async def test_inline_answers_have_nothing_to_be_accepted_as(session, jobs, folder, capsys):
    assert await run(session, jobs("a cat", model="dall-e-3"), folder, pick_up=PICK_UP) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("codes", "code"), [([0], 0), ([0, 2], 2), ([2, 1, 0], 1), ([1, 4], 4), ([3, 4, 1], 3)])
def test_worst_code_is_the_one_a_script_should_hear_of(codes, code):
    assert worst(codes) == code


def test_note_drives_no_terminal(capsys):
    note("a\x1b[2Jb")
    assert capsys.readouterr().err == "note: a [2Jb\n"


@pytest.mark.parametrize(("prompts", "code"), [("fine", 0), ("fine refused", 1), ("refused fine unknown", 3)])
async def test_exit_code_is_that_of_the_worst_job_and_the_others_are_saved(jobs, folder, emulator, prompts, code):
    emulator.fault("submit", Status(402), prompt="refused")
    emulator.fault("submit", Reset("request_end"), prompt="unknown")
    assert await run(jobs.session, jobs(*prompts.split()), folder, pick_up=PICK_UP) == code
    assert names(folder) == ["fine.png"]


async def test_errors_are_told_with_the_prompt(session, jobs, folder, emulator, capsys):
    emulator.fault("submit", Status(402, error={"hint": "Top up."}))
    assert await run(session, jobs("a cat"), folder, pick_up=PICK_UP) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: a cat: HTTP 402 insufficient_balance: Insufficient balance.; Top up.; request id ")


async def test_job_without_a_label_is_called_by_what_was_really_asked_for(session, folder):
    """A task that is picked up has no prompt; the service remembers one."""
    task = await session.submit("the old prompt", model="flux-pro")

    async def resume():
        return task

    assert await run(session, [Job("", resume)], folder, pick_up=PICK_UP) == 0
    assert names(folder) == ["the-old-prompt.png"]


@pytest.mark.parametrize("pick_up", [PICK_UP, ""], ids=["service", "emulator"])
async def test_unfinished_task_is_told_with_the_command_that_picks_it_up(emulator, folder, capsys, pick_up):
    """Where there is one: the emulator of a command ends with it."""
    emulator.fault("submit", Stuck())
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=0.03)
    async with LemonSession(emulator.api_key, base_url=emulator.base_url, polling=polling) as session:
        job = Job("a cat", partial(session.submit, "a cat", model="flux-pro"))
        assert await run(session, [job], folder, pick_up=pick_up) == 4
    err = capsys.readouterr().err.splitlines()
    assert err[1].startswith("error: a cat: task ldtask_")
    assert "session.task" not in err[1]  # that is advice for Python
    assert (f"; to pick it up again: {PICK_UP} ldtask_" in err[1]) is bool(pick_up)


async def test_picture_that_cannot_be_fetched_is_told_with_its_link(session, jobs, folder, emulator, capsys):
    emulator.fault("cdn", Expire())
    assert await run(session, jobs("a cat"), folder, pick_up=PICK_UP) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: a cat: could not fetch http://127.0.0.1:" in err
    assert f"the picture is paid for; its link, good for some hours: {emulator.base_url}/cdn/" in err


async def test_picture_that_cannot_be_saved_is_told_with_its_link(session, jobs, folder, emulator, capsys):
    """The disk's fault leaves the way to the paid picture."""
    folder.folder.rmdir()
    assert await run(session, jobs("a cat"), folder, pick_up=PICK_UP) == 1
    err = capsys.readouterr().err
    assert "error: a cat: [Errno 2] No such file or directory" in err
    assert f"its link, good for some hours: {emulator.base_url}/cdn/" in err


async def test_picture_without_a_link_that_cannot_be_saved_has_none_to_tell(session, folder, capsys):
    folder.folder.rmdir()
    submit = partial(session.submit, "a cat", model="dall-e-3", response_format="b64_json")
    assert await run(session, [Job("a cat", submit)], folder, pick_up=PICK_UP) == 1
    assert "paid for" not in capsys.readouterr().err


class BrokenOutput(io.StringIO):
    """An output that cannot take what is written to it: a closed pipe, a terminal without the characters."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        if text:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(errno.EPIPE, "Broken pipe"), UnicodeEncodeError("ascii", "猫", 0, 1, "ordinal not in range(128)")],
    ids=["closed pipe", "no such character"],
)
async def test_path_that_cannot_be_printed_ends_no_other_job(jobs, folder, emulator, capsys, error):
    """`lemon-async generate ... | head -1` does not cancel what is paid for already."""
    with contextlib.redirect_stdout(BrokenOutput(error)):
        assert await run(jobs.session, jobs("a cat", "a dog"), folder, pick_up=PICK_UP) == 1
    assert names(folder) == ["a-cat.png", "a-dog.png"]
    assert emulator.ledger.settled == {"a cat": 1, "a dog": 1}
    err = capsys.readouterr().err
    assert all(f"error: {folder.folder}/{name}.png: {error}" in err for name in ("a-cat", "a-dog"))
    assert "paid for" not in err


async def interrupt(running, *, until):
    async with asyncio.timeout(5):
        while not until():
            await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("pick_up", [PICK_UP, ""], ids=["service", "emulator"])
async def test_interrupted_jobs_are_listed_with_the_command_that_picks_them_up(jobs, folder, emulator, capsys, pick_up):
    """What goes on at the service is told; what ends with the emulator, too."""
    emulator.fault("submit", Stuck())
    running = asyncio.create_task(run(jobs.session, jobs("a cat", "a dog"), folder, pick_up=pick_up))
    await interrupt(running, until=lambda: len(jobs.session.pending) == 2)
    ids = [task.id for task in jobs.session.pending]
    told = capsys.readouterr().err.partition("interrupted; ")[2]
    if pick_up:
        assert told.splitlines() == [
            "these tasks go on and are billed. To pick them up again:",
            *(f"  lemon-async task -o . {task_id}" for task_id in ids),
        ]
    else:
        assert told == f"the emulator ends with this command, and with it: {' '.join(ids)}\n"


async def test_interrupted_paid_request_is_told_to_be_in_doubt(session, jobs, folder, emulator, capsys, caplog):
    """The library warns of it, and the command prints what the library warns of."""
    emulator.fault("submit", Blackhole())
    running = asyncio.create_task(run(session, jobs("a cat"), folder, pick_up=PICK_UP))
    await interrupt(running, until=lambda: emulator.ledger.sold)
    (record,) = caplog.records
    Notes().emit(record)
    err = capsys.readouterr().err
    assert err.startswith("note: the paid request was sent, but its fate is unknown: cancelled while waiting")
    assert "interrupted" not in err
