"""How a command ends: with all problems, with an exit code, or by a signal."""

import asyncio
import os
import shlex
import signal

import pytest
from click.testing import CliRunner

from commands import Command
from lemon_async import (
    ContractError,
    DownloadError,
    LemonSession,
    PollPolicy,
    SubmissionUnknown,
    TaskTimeout,
    TransportError,
)
from lemon_async.cli.commands import cli
from lemon_async.cli.runner import (
    BASE_URL_VARIABLE,
    KEY_VARIABLE,
    SessionOptions,
    exit_code_of,
    problems_of,
    raise_problems,
    run_command,
    worst,
)
from lemon_async.emulator import Blackhole, Script, Status, Stuck
from lemon_async.errors import SessionError, TaskFailed
from lemon_async.types import Problem

BROKEN = Problem("n", "is odd")


def refuse(*problems):
    raise ContractError(problems=problems)


def test_problems_of_an_attempt_are_those_it_is_refused_for():
    assert problems_of(lambda: refuse(BROKEN)) == (BROKEN,)
    assert problems_of(lambda: None) == ()


def test_each_problem_is_raised_once():
    raise_problems([])
    with pytest.raises(ContractError) as caught:
        raise_problems([BROKEN, Problem("size", "is odd"), BROKEN])
    assert caught.value.problems == (BROKEN, Problem("size", "is odd"))


def test_session_with_an_emulator_needs_no_key_and_takes_no_address(monkeypatch):
    monkeypatch.setenv(BASE_URL_VARIABLE, "nonsense")
    assert SessionOptions(is_emulated=True).problems() == ()
    (problem,) = SessionOptions(base_url="https://api.test", is_emulated=True).problems()
    assert str(problem) == "--base-url: cannot be combined with --emulator, which has its own address"


def test_missing_key_names_the_emulator_only_where_the_command_has_that_option(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert [str(problem) for problem in SessionOptions().problems()] == [f"{KEY_VARIABLE}: must be set"]
    (problem,) = SessionOptions(is_emulated=False).problems()
    assert str(problem) == f"{KEY_VARIABLE}: must be set, or add --emulator, which needs no key"


def test_problems_name_the_option_or_the_variable_that_has_them(monkeypatch):
    def fields(**options):
        return [problem.field for problem in SessionOptions(**options).problems()]

    assert fields(base_url="nonsense") == [KEY_VARIABLE, "base_url"]  # printed as --base-url
    monkeypatch.setenv(KEY_VARIABLE, "sk-two words")
    monkeypatch.setenv(BASE_URL_VARIABLE, "nonsense")
    assert fields(deadline_s=0) == ["deadline_s", KEY_VARIABLE, BASE_URL_VARIABLE]


def test_shared_limit_is_checked_and_never_shown(monkeypatch):
    """It needs the limit; its URL may have a password, so that no command or repr repeats it."""
    monkeypatch.setenv(KEY_VARIABLE, "sk-test")
    shared = SessionOptions(shared_limit="redis://:secret@localhost")
    assert [problem.field for problem in shared.problems()] == ["shared_limit"]
    limited = SessionOptions(requests_per_minute=60, shared_limit="redis://:secret@localhost")
    assert limited.problems() == ()
    assert "secret" not in repr(limited) + limited.resume_command("out/")


def test_exit_code_shows_the_kind_of_failure():
    errors = {
        ContractError(problems=()): 2,
        ValueError("speed must be above 0"): 2,
        SubmissionUnknown(request=None, fingerprint="f", reason="r"): 3,
        TaskTimeout(reason="r"): 4,
        TaskFailed(reason="r"): 1,
        TransportError(message="m"): 1,
        SessionError(message="m"): 1,
        DownloadError(url="u", reason="r"): 1,
        OSError(28, "No space left on device"): 1,
    }
    assert {error: exit_code_of(error) for error in errors} == errors


def test_worst_exit_code_is_the_gravest():
    codes = {(0,): 0, (0, 141): 141, (141, 2): 2, (2, 1, 0): 1, (1, 4): 4, (3, 4, 1): 3}
    assert {each: worst(each) for each in codes} == codes


@pytest.mark.parametrize(
    ("access", "words"),
    [
        (SessionOptions(requests_per_minute=60), "lemon-async task --requests-per-minute 60 -o 'my cats/'"),
        (SessionOptions(), "lemon-async task -o 'my cats/'"),
        (SessionOptions(base_url="https://api.test"), "lemon-async task --base-url https://api.test -o 'my cats/'"),
        (
            SessionOptions(base_url="http://b:1", allow_http=frozenset({"b:1", "a"})),
            "lemon-async task --base-url http://b:1 --allow-http a --allow-http b:1 -o 'my cats/'",
        ),
        (SessionOptions(is_emulated=True), ""),
    ],
    ids=["limit", "service", "address", "plain http", "emulator"],
)
def test_resume_command_has_the_options_of_the_session(access, words):
    assert access.resume_command("my cats/") == words


def test_gaps_between_polls_are_checked_together():
    access = SessionOptions(base_url="https://api.test", min_gap_s=5, max_gap_s=2)
    assert "max_gap_s" in [problem.field for problem in access.problems()]
    assert SessionOptions(is_emulated=True, max_gap_s=5).problems() == ()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ContractError(problems=(BROKEN,)), 2, "error: --n: is odd (nothing was sent)\n"),
        (TransportError(message="no route"), 1, "error: no route\n"),
        (OSError("the disk is full"), 1, "error: the disk is full\n"),
        (RecursionError("too deep"), 1, "error: too deep\n"),
        (KeyboardInterrupt(), 130, ""),
        (asyncio.CancelledError(), 143, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_error_ends_the_command_with_words_and_a_code(error, code, words, capsys):
    async def work():
        raise error

    with pytest.raises(SystemExit) as caught:
        run_command(work)
    assert caught.value.code == code
    assert capsys.readouterr().err.startswith(words)


# As a process


@pytest.mark.parametrize(
    ("sign", "code", "output", "names"),
    [
        (signal.SIGINT, 130, "out/", ["a-cat.png", "a-dog.png"]),
        (signal.SIGTERM, 143, "out/{index:03}-{slug}", ["000-a-cat.png", "001-a-dog.png"]),
        (signal.SIGHUP, 129, "out/", ["a-cat.png", "a-dog.png"]),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)
async def test_signal_while_waiting_prints_how_to_resume_the_tasks(
    emulator, interruptible, tmp_path, sign, code, output, names, pictures, all_settled
):
    """One command saves their pictures under the intended names, and nothing is paid twice."""
    emulator.fault("poll", Status(502))  # however long the signal takes, the command sees no picture
    words = ["generate", "a cat", "a dog", "-m", "flux-pro", "-o", output, "--base-url", emulator.base_url]
    command = await Command.start(*words, **{KEY_VARIABLE: emulator.api_key})
    await command.wait_for("accepted as ldtask_", times=2)
    assert await command.interrupt(sign) == (code, "")
    emulator.clear_faults()
    head, *commands = command.stderr.partition("interrupted; ")[2].splitlines()
    assert head == "these tasks continue and are billed. To resume them:"
    (words,) = map(shlex.split, commands)
    assert words[:2] == ["lemon-async", "task"]
    await all_settled(emulator)
    result = await asyncio.to_thread(CliRunner().invoke, cli, words[1:], env={KEY_VARIABLE: emulator.api_key})
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path / "out") == names
    assert emulator.ledger.sold == {"a cat": 1, "a dog": 1}


async def test_signal_during_a_paid_request_waits_for_its_response(emulator, gateway, interruptible):
    """It waits for some seconds; without a response, the unknown outcome is reported."""
    emulator.fault("submit", Blackhole(), prompt="lost")
    gateway.may_answer.clear()
    words = ["generate", "slow", "lost", "-m", "flux-pro", "--base-url", gateway.base_url]
    command = await Command.start(*words, **{KEY_VARIABLE: emulator.api_key})
    async with asyncio.timeout(60):
        while sum(seen.route == "submit" for seen in emulator.requests) < 2:
            await asyncio.sleep(0.005)
    command.process.send_signal(signal.SIGINT)
    await command.wait_for("interrupted; waiting")
    gateway.may_answer.set()
    assert await command.end() == (130, "")
    assert command.stderr.startswith("interrupted; waiting up to 5 s for responses to paid requests\naccepted as ")
    assert "note: the paid request was sent, but its outcome is unknown" in command.stderr
    assert ":0:slow\n" in command.stderr
    assert "Traceback" not in command.stderr


async def test_command_under_nohup_continues_without_its_terminal(emulator, tmp_path, pictures):
    """A signal that is ignored stays ignored."""
    emulator.fault("submit", Script(("pending",) * 50 + ("completed",)))
    ignoring = "import runpy, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); runpy.run_module('lemon_async')"
    words = ["generate", "a cat", "-m", "flux-pro", "--base-url", emulator.base_url]
    words += ["--poll-min-gap", "0.01", "--poll-max-gap", "0.01"]
    command = await Command.start_program("-c", ignoring, *words, **{KEY_VARIABLE: emulator.api_key})
    await command.wait_for("accepted as ldtask_")
    assert await command.interrupt(signal.SIGHUP) == (0, "a-cat.png\n"), command.stderr


@pytest.mark.parametrize("module", ["aiohttp", "click", "lemon_async.emulator"])
async def test_ctrl_c_during_the_imports_shows_no_traceback(interruptible, tmp_path, module):
    """A module prints a line when it is imported, and then takes ten minutes."""
    code = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            print('importing', file=sys.stderr, flush=True)\n"
        "            time.sleep(600)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from lemon_async.cli import main\n"
        "main()"
    )
    command = await Command.start_program("-c", code, "generate", "a cat", "--emulator")
    await command.wait_for("importing")
    assert await command.interrupt() == (130, "")
    assert command.stderr == "importing\n"


async def test_ctrl_c_after_the_imports_is_met_as_ever(emulator, interruptible):
    emulator.fault("submit", Stuck())
    words = ["generate", "a cat", "-m", "flux-pro", "--base-url", emulator.base_url]
    command = await Command.start_program(
        "-c", "from lemon_async.cli import main; main()", *words, **{KEY_VARIABLE: emulator.api_key}
    )
    await command.wait_for("accepted as ldtask_")
    assert await command.interrupt() == (130, "")
    assert "To resume them:" in command.stderr


async def test_ctrl_c_while_prompts_are_read_ends_the_command(interruptible, tmp_path):
    """Nothing was sent, and the end of the pipe is not awaited."""
    os.mkfifo(tmp_path / "pipe")
    command = await Command.start("generate", "--prompts", "pipe", "--emulator")
    # The command has opened the pipe once this succeeds.
    with await asyncio.to_thread((tmp_path / "pipe").open, "wb"):
        # Python does not notice a signal that comes just before a read blocks: then users press the keys again.
        again = asyncio.get_running_loop().call_later(15, command.process.send_signal, signal.SIGINT)
        assert await command.interrupt() == (130, "")
        again.cancel()
    assert "KeyboardInterrupt" not in command.stderr


async def test_emulator_prints_first_what_clients_need(interruptible):
    """The first two lines export environment variables with which a session works."""
    command = await Command.start("emulator", "--speed", "6000")
    async with asyncio.timeout(60):
        lines = [(await command.process.stdout.readline()).decode().strip() for _ in range(2)]
    assert [line.partition("=")[0] for line in lines] == [f"export {BASE_URL_VARIABLE}", f"export {KEY_VARIABLE}"]
    base_url, key = (line.partition("=")[2] for line in lines)
    polling = PollPolicy(min_gap_s=0.01, max_gap_s=0.02)
    async with LemonSession(key, base_url=base_url, polling=polling) as session:
        images = await session.generate("a cat", model="flux-pro")
        assert (await images[0].read()).startswith(b"\x89PNG")
    assert await command.interrupt() == (130, "")
    assert command.stderr.splitlines() == [
        f"the studio is at {base_url}/",
        "serving the emulated API; Ctrl-C ends it and drops its tasks",
    ]


async def test_reader_that_exits_ends_the_list_silently(emulator, gateway):
    """`lemon-async models | head -1`: the pipe is closed before the list is written."""
    gateway.may_answer.clear()
    command = await Command.start("models", "--base-url", gateway.base_url, **{KEY_VARIABLE: emulator.api_key})
    command.process.stdout._transport.close()
    await asyncio.sleep(0)
    gateway.may_answer.set()
    async with asyncio.timeout(60):
        assert await command.process.stderr.read() == b""
        assert await command.process.wait() == 141


async def test_reader_that_takes_one_line_ends_the_submitting(emulator, tmp_path, pictures):
    """`lemon-async generate ... --json | head -1`, one job after the other: at most one more was in flight."""
    words = ["generate", *"abcdefgh", "-o", "out/", "--json", "--in-flight", "1", "--base-url", emulator.base_url]
    command = await Command.start(*words, **{KEY_VARIABLE: emulator.api_key})
    async with asyncio.timeout(60):
        assert (await command.process.stdout.readline()).startswith(b"{")
        command.process.stdout._transport.close()
        stderr = (await command.process.stderr.read()).decode()
        assert await command.process.wait() == 141
    assert 2 <= len(emulator.ledger.settled) < 8
    assert sorted(emulator.ledger.settled) == [name[4] for name in pictures(tmp_path)]
    assert stderr == "note: stdout was closed: nothing more is submitted; jobs that were submitted are saved\n"


@pytest.mark.parametrize(("closed", "code"), [(["stderr"], 0), (["stdout"], 141), (["stdout", "stderr"], 141)], ids=str)
async def test_reader_that_exits_costs_no_picture(emulator, tmp_path, pictures, closed, code):
    """`lemon-async generate ... 2>&1 | head -1`: pictures of accepted jobs are saved."""
    words = ["generate", "a cat", "a dog", "-m", "flux-pro", "-o", "out/", "--base-url", emulator.base_url]
    words += ["--poll-min-gap", "0.01", "--poll-max-gap", "0.02"]
    command = await Command.start(*words, **{KEY_VARIABLE: emulator.api_key})
    for name in closed:
        getattr(command.process, name)._transport.close()
    async with asyncio.timeout(60):
        assert await command.process.wait() == code
    assert pictures(tmp_path) == ["out/a-cat.png", "out/a-dog.png"]
    assert emulator.ledger.settled == {"a cat": 1, "a dog": 1}
