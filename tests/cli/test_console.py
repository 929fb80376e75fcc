"""Messages are plain text on stderr."""

import contextlib
import errno
import io
import logging

import pytest

from lemon_async import TaskTimeout, TransportError
from lemon_async.cli.arguments import Reference
from lemon_async.cli.console import (
    EventPrinter,
    LogPrinter,
    print_error,
    print_failure,
    print_link,
    print_note,
    print_pending,
    print_result,
    translate,
)
from lemon_async.errors import BatchPaused, TaskFailed
from lemon_async.events import RateLimited, RetryScheduled
from lemon_async.types import Problem


class Task:
    def __init__(self, task_id):
        self.id = task_id

    def resume_token(self):
        return "token"


def test_print_errort_is_a_line_without_control_characters(capsys):
    print_error(TransportError(message="GET /v1: \x1b[31mred\x07"), "a \x1b cat")
    print_error(TransportError(message="no label"))
    print_error(KeyError())
    assert capsys.readouterr() == ("", "error: a   cat: GET /v1:  [31mred \nerror: no label\nerror: KeyError\n")


def test_refused_connection_to_this_machine_asks_for_the_emulator(capsys):
    cases = (("127.0.0.1:9", errno.ECONNREFUSED, True), ("[::1]:9", errno.ECONNREFUSED, True),
             ("127.0.0.1:9", errno.ETIMEDOUT, False), ("api.test:443", errno.ECONNREFUSED, False))  # fmt: skip
    for address, number, has_hint in cases:
        print_error(TransportError(message=f"cannot connect to {address}: [Errno {number}] failed"))
        err = capsys.readouterr().err
        assert address in err
        assert ("is the emulator running? (LEMONDATA_BASE_URL or --base-url)" in err) is has_hint


@pytest.mark.parametrize(
    ("problem", "translated"),
    [
        (Problem("budget_usd", "needs price_usd="), "--budget-usd: needs --price-usd"),
        (Problem("save", "is odd"), "-o: is odd"),
        (Problem("image[1]", "cannot be read"), "--image 2: cannot be read"),
        (Problem("line 3, aspect_ratio", "is odd"), "line 3, aspect_ratio: is odd"),
    ],
    ids=str,
)
def test_problem_names_the_option_or_the_column_of_a_row(problem, translated):
    assert str(translate(problem)) == translated


def test_paused_batch_names_options(capsys):
    print_error(BatchPaused(message="raise budget_usd"))
    assert capsys.readouterr().err == "error: raise --budget-usd\n"


def test_note_drives_no_terminal(capsys):
    print_note("a\x1b[2Jb")
    LogPrinter().emit(logging.LogRecord("lemon_async", logging.WARNING, "", 0, "again in %d s", (8,), None))
    assert capsys.readouterr().err == "note: a [2Jb\nnote: again in 8 s\n"


def test_retry_names_its_request_and_the_reason(capsys):
    """A paid one by what matters: it may be sent again only because nothing was sold."""
    error = TransportError(message="not sent, nothing was sold: no connection")
    printer = EventPrinter()
    printer(RetryScheduled(at=0.0, what="POST /v1/images/generations", attempt=1, wait_s=0.54, error=error, job=1))
    printer(RetryScheduled(at=0.0, what="GET /v1/models", attempt=1, wait_s=2, error=error))
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"note: trying a paid request again in 0.5 s, because: {error}"
    assert second == f"note: trying GET /v1/models again in 2.0 s, because: {error}"


def test_rate_limit_is_noted_once(capsys):
    """A session that does not know its limit finds it by some dozen 429s."""
    printer = EventPrinter()
    for pause_s in (1.5, None, 3):
        printer(RateLimited(at=0.0, retry_after_s=pause_s))
    words = "the rate limit of the account is reached: all requests pause for 1.5 s, and then slow down"
    assert capsys.readouterr().err == f"note: {words}\n"


def test_line_goes_to_stdout(capsys):
    assert print_result("out/cat.png", about="cat.png")
    assert capsys.readouterr() == ("out/cat.png\n", "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TaskFailed(reason="moderated", task=Task("ldtask_1")), "error: a cat: task ldtask_1 failed: moderated\n"),
        (
            TaskTimeout(reason="15 min are over", task=Task("ld task")),
            (
                "error: a cat: task ld task is not finished: 15 min are over. It may still finish and be billed"
                "; to resume it: lemon-async task 'ld task:3:a-cat'\n"
            ),
        ),
    ],
)
def test_failure_is_printed_with_what_a_shell_can_do(capsys, error, words):
    print_failure(error, "a cat", "lemon-async task", index=3)
    assert capsys.readouterr().err == words


def test_id_that_looks_like_an_option_is_printed_after_two_dashes(capsys):
    print_pending([Reference("ldtask_1"), Reference("-o/etc/passwd", 1)], "lemon-async task")
    assert capsys.readouterr().err.splitlines()[1] == "  lemon-async task -- ldtask_1 -o/etc/passwd:1"


def test_link_of_what_was_paid_for_is_told(capsys):
    print_link("https://cdn.test/1\x1b.png")
    assert capsys.readouterr().err == (
        "the picture is paid for; its link, valid for some hours: https://cdn.test/1 .png\n"
    )


@pytest.mark.parametrize("pick_up", ["lemon-async task", ""])
def test_nothing_open_is_nothing_to_tell(capsys, pick_up):
    print_pending([], pick_up)
    assert capsys.readouterr().err == ""


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


BROKEN = {
    "closed pipe": Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "gone terminal": Broken(OSError(errno.EIO, "Input/output error")),
    "closed": Broken(ValueError("I/O operation on closed file.")),
    "no such character": Broken(UnicodeEncodeError("ascii", "猫", 0, 1, "ordinal not in range(128)")),
    "none": None,
}


@pytest.mark.parametrize("stderr", BROKEN.values(), ids=BROKEN)
def test_broken_stderr_is_ignored(capsys, stderr):
    """The message does not go to stdout instead, where only results belong."""
    with contextlib.redirect_stderr(stderr):
        print_note("a cat")
        print_error(KeyError(), "a cat")
        print_failure(TaskTimeout(reason="r"), "a cat", "lemon-async task")
        print_link("https://cdn.test/1.png")
        print_pending([Reference("ldtask_1")], "lemon-async task")
        LogPrinter().emit(logging.LogRecord("lemon_async", logging.WARNING, "", 0, "again", (), None))
    assert capsys.readouterr() == ("", "")


def test_reader_of_stdout_that_has_gone_is_the_business_of_the_caller(capsys):
    with contextlib.redirect_stdout(BROKEN["closed pipe"]), pytest.raises(BrokenPipeError):
        print_result("out/cat.png", about="cat.png")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("stdout", [BROKEN[name] for name in BROKEN if name != "closed pipe"])
def test_line_that_stdout_does_not_take_is_reported_on_stderr(capsys, stdout):
    with contextlib.redirect_stdout(stdout):
        assert not print_result("out/cat.png", about="cat.png")
    assert capsys.readouterr().err.startswith("error: cat.png: ")
