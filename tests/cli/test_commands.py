"""The commands, from a shell's point of view."""

import asyncio
import os
import shlex
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from itertools import chain

import orjson
import pytest
from click.testing import CliRunner

from lemon_async import LemonSession, PollPolicy
from lemon_async.cli.commands import cli
from lemon_async.client.key import KEY_VARIABLE
from lemon_async.client.session import BASE_URL_VARIABLE
from lemon_async.emulator import Blackhole, Reset, Status, Stuck

PNG = b"\x89PNG"


def pictures(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.read_bytes()[:4] == PNG)


async def all_settled(emulator):
    """Wait until every job is over, so that the first poll of the command finds it so."""
    async with asyncio.timeout(5):
        while emulator.ledger.open:
            await asyncio.sleep(0.001)


@pytest.fixture
async def bodies():
    """A service that answers every paid request with a picture and notes the bodies."""
    seen = []
    answer = b'{"data": [{"b64_json": "R0lGODlhAgADAAAAADs="}]}'

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        seen.append(orjson.loads(await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield seen
    server.close()
    await server.wait_closed()


# generate


async def test_picture_is_saved_in_this_folder_and_its_path_printed(lemon, emulator, tmp_path):
    result = await lemon("generate", "A white cat!")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a-white-cat.png\n", "")
    assert pictures(tmp_path) == ["a-white-cat.png"]
    assert emulator.ledger.settled == {"A white cat!": 1}


async def test_several_prompts_go_into_a_folder_under_free_names(lemon, emulator, tmp_path):
    result = await lemon("generate", "a cat", "a cat", "a dog", "-o", "new/folder/")
    assert result.exit_code == 0
    assert pictures(tmp_path) == [f"new/folder/{name}.png" for name in ("a-cat-2", "a-cat", "a-dog")]
    assert sorted(result.stdout.split()) == pictures(tmp_path)
    assert emulator.ledger.sold == {"a cat": 2, "a dog": 1}


async def test_several_pictures_of_a_prompt_are_numbered_after_the_file(lemon, tmp_path):
    result = await lemon("generate", "a cat", "-m", "dall-e-2", "--n", "2", "-o", "out/cat.png")
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["out/cat-2.png", "out/cat.png"]


async def test_command_with_wrong_arguments_shows_how_it_is_used(lemon, emulator):
    for words in (["generate"], ["generate", "a cat", "--sise", "1"], ["generate", "a cat", "--n", "many"], ["task"]):
        result = await lemon(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("Usage: ")
    assert emulator.requests == []


async def test_broken_rules_of_all_prompts_are_told_once_and_nothing_is_sent(lemon, emulator, tmp_path):
    words = ["-m", "dall-e-3", "--n", "11", "--style", "loud", "-o", "new/"]
    result = await lemon("generate", "a cat", "a dog", "", *words)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: 3 problems, nothing was sent:\n"
        "  - n: must be a whole number from 1 to 10\n"
        "  - style: DALL-E 3 takes vivid, natural, not 'loud'\n"
        "  - prompt: must be text and not empty\n"
    )
    assert emulator.requests == []
    assert list(tmp_path.iterdir()) == []


async def test_checks_can_be_switched_off_and_the_service_refuses(lemon, emulator):
    result = await lemon("generate", "a cat", "--style", "loud", "--no-check")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a cat: HTTP 400")
    assert "style" in result.stderr
    assert len(emulator.requests) == 1


async def test_options_are_fields_and_nothing_else_is_sent(bodies):
    options = {
        "-m": "gpt-image-2",
        "--n": "1",
        "--size": "auto",
        "--quality": "low",
        "--background": "opaque",
        "--output-format": "webp",
        "--output-compression": "90",
        "--moderation": "low",
        "--partial-images": "0",
        "--user": "me",
    }
    words = ["generate", "cat", "--base-url", bodies.pop(), "--async", *chain(*options.items())]
    result = await asyncio.to_thread(CliRunner().invoke, cli, words, env={KEY_VARIABLE: "sk-x"})
    assert (result.exit_code, result.stdout) == (0, "cat.gif\n"), result.stderr
    assert bodies == [
        {
            "prompt": "cat",
            "model": "gpt-image-2",
            "n": 1,
            "size": "auto",
            "quality": "low",
            "async": True,
            "background": "opaque",
            "output_format": "webp",
            "output_compression": 90,
            "moderation": "low",
            "partial_images": 0,
            "user": "me",
        }
    ]


async def test_prompt_alone_sends_nothing_but_the_prompt(bodies):
    """The service has its own defaults."""
    words = ["generate", "cat", "--base-url", bodies.pop()]
    assert (await asyncio.to_thread(CliRunner().invoke, cli, words, env={KEY_VARIABLE: "sk-x"})).exit_code == 0
    assert bodies == [{"prompt": "cat"}]


async def test_fields_of_tomorrow_are_json_or_text(bodies):
    words = ["generate", "cat", "--base-url", bodies.pop()]
    for pair in ("seed=5", "tags=[1, null]", "mood=bright", "note=a=b", "empty="):
        words += ["--extra", pair]
    result = await asyncio.to_thread(CliRunner().invoke, cli, words, env={KEY_VARIABLE: "sk-x"})
    assert result.exit_code == 0, result.stderr
    assert bodies == [{"prompt": "cat", "seed": 5, "tags": [1, None], "mood": "bright", "note": "a=b", "empty": ""}]


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("seed", "--extra: must be NAME=VALUE, not 'seed'"),
        ("=5", "--extra: must be NAME=VALUE, not '=5'"),
        ("size=1x1", "extra: 'size' is a field of its own; pass it as size="),
    ],
)
async def test_extra_that_is_no_field_is_refused(lemon, emulator, pair, words):
    result = await lemon("generate", "a cat", "--extra", pair)
    assert (result.exit_code, result.stderr) == (2, f"error: {words} (nothing was sent)\n")
    assert emulator.requests == []


@pytest.mark.parametrize("output", ["file/", "file/cat.png"])
async def test_place_that_cannot_be_written_to_is_refused_before_anything_is_paid(lemon, emulator, tmp_path, output):
    (tmp_path / "file").touch()
    result = await lemon("generate", "a cat", "-o", output)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: -o: cannot write to 'file")
    assert emulator.requests == []


async def test_one_file_for_several_prompts_is_refused_before_anything_is_paid(lemon, emulator):
    result = await lemon("generate", "a cat", "a dog", "-o", "cat.png")
    assert result.exit_code == 2
    assert "name a folder, as in 'cat.png/'" in result.stderr
    assert emulator.requests == []


@pytest.mark.parametrize("command", ["generate", "task"])
@pytest.mark.parametrize("environment", [{}, {KEY_VARIABLE: ""}], ids=["unset", "empty"])
async def test_missing_key_is_one_clear_line_and_never_the_emulator(lemon, emulator, command, environment):
    """Drawn pictures are for who asks for them."""
    result = await lemon(command, "ldtask_1", **{KEY_VARIABLE: None, **environment})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: API key: is missing: set {KEY_VARIABLE}")
    assert result.stderr.count("\n") == 1
    assert emulator.requests == []


async def test_advice_for_a_missing_key_works():
    """Whatever the command was, the one that is told needs no key."""
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["task", "ldtask_1"])
    advice = result.stderr.split("`")[1]
    result = await asyncio.to_thread(CliRunner().invoke, cli, [*shlex.split(advice)[1:], "a cat"])
    assert result.exit_code == 0, result.stderr


async def test_address_that_cannot_work_is_refused(lemon, emulator):
    result = await lemon("generate", "a cat", "--base-url", "http://api.test")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: base_url: must use https")


async def test_deadline_that_cannot_work_is_refused(lemon, emulator):
    result = await lemon("generate", "a cat", "--deadline", "-1")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: deadline_s: must be a finite number above 0, not -1.0")
    assert emulator.requests == []


async def test_refusal_of_the_service_is_told_without_its_control_characters(lemon, emulator):
    emulator.fault("submit", Status(402, message="\x1b[31mBroke\x07\u202e", error={"hint": "Top\rup\x1b[0m."}))
    result = await lemon("generate", "a cat")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a cat: HTTP 402 insufficient_balance: [31mBroke; Top up [0m.")
    assert result.stderr.replace("\n", "").isprintable()


async def test_wrong_key_is_refused_by_the_service_and_not_shown(lemon):
    result = await lemon("generate", "a cat", **{KEY_VARIABLE: "sk-wrong-0123456789"})
    assert result.exit_code == 1
    assert "HTTP 401 invalid_api_key" in result.stderr
    assert "sk-wrong" not in result.output


async def test_paid_request_in_doubt_has_a_code_of_its_own(lemon, emulator):
    emulator.fault("submit", Reset("request_end"))
    result = await lemon("generate", "a cat")
    assert result.exit_code == 3
    assert "its fate is unknown" in result.stderr
    assert emulator.ledger.sold == {"a cat": 1}


async def test_unfinished_task_is_picked_up_by_the_command_that_is_told(lemon, emulator, tmp_path):
    """Paid once, saved in the end, and under the name that was wanted."""
    result = await lemon("generate", "a cat", "-m", "flux-pro", "-o", "my cats/cat.png", "--deadline", "0.05")
    assert result.exit_code == 4
    told = result.stderr.split("to pick it up again: ")[1]
    words = shlex.split(told)
    assert words[:6] == ["lemon-async", "task", "--base-url", emulator.base_url, "-o", "my cats/cat.png"]
    environment = {KEY_VARIABLE: emulator.api_key}
    result = await asyncio.to_thread(CliRunner().invoke, cli, words[1:], env=environment)
    assert (result.exit_code, result.stdout) == (0, "my cats/cat.png\n")
    assert pictures(tmp_path) == ["my cats/cat.png"]
    assert emulator.ledger.sold == {"a cat": 1}


async def test_address_of_the_environment_is_not_repeated_in_the_advice(emulator):
    """It is still there when the advice is followed."""
    emulator.fault("submit", Stuck())
    words = ["generate", "a cat", "-m", "flux-pro", "--deadline", "0.05"]
    environment = {KEY_VARIABLE: emulator.api_key, BASE_URL_VARIABLE: emulator.base_url}
    result = await asyncio.to_thread(CliRunner().invoke, cli, words, env=environment)
    assert "to pick it up again: lemon-async task -o . ldtask_" in result.stderr


@pytest.mark.parametrize("model", ["dall-e-3", "flux-pro"])
def test_emulator_needs_no_key_and_no_network(tmp_path, model):
    words = ["generate", "a cat", "a dog", "--emulator", "-m", model, "--size", "1024x1024"]
    result = CliRunner().invoke(cli, words, env={BASE_URL_VARIABLE: "https://never.test"})
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["a-cat.png", "a-dog.png"]


def test_unfinished_task_of_an_emulator_cannot_be_picked_up_and_no_command_says_so():
    """It ends with the command."""
    words = ["generate", "a cat", "--emulator", "-m", "flux-pro", "--deadline", "0.05"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 4
    assert "is not finished" in result.stderr
    assert "pick it up" not in result.stderr


# task


@pytest.mark.parametrize("reference", [lambda task: task.id, lambda task: task.resume_token()], ids=["id", "token"])
async def test_task_is_picked_up_by_id_or_token_and_paid_once(lemon, emulator, tmp_path, reference):
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        task = await session.submit("the old prompt", model="midjourney")
    await all_settled(emulator)
    result = await lemon("task", reference(task), "-o", "out/")
    assert (result.exit_code, result.stdout) == (0, "out/the-old-prompt.png\n"), result.stderr
    assert "accepted" not in result.stderr
    assert pictures(tmp_path) == ["out/the-old-prompt.png"]
    assert emulator.ledger.sold == {"the old prompt": 1}


async def test_reference_that_is_none_is_refused(lemon, emulator):
    result = await lemon("task", "two words")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: task: is neither a task id nor a resume token")
    assert emulator.requests == []


async def test_task_that_is_unknown_is_waited_for_until_the_deadline(lemon):
    """It may be lag; the code says "not finished" and not "lost"."""
    result = await lemon("task", "ldtask_unknown", "--deadline", "0.05")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: task ldtask_unknown is not finished")


# emulator


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_models(port, key):
    """Ask the emulator for its models until it is there; tell whether it came."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"})
    for _ in range(1000):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
    return False


def test_emulator_serves_until_it_is_interrupted(interruptible):
    """Interrupted from a thread, as Ctrl-C does it; the exit code is the usual one."""
    port = free_port()

    def use_and_interrupt():
        if wait_for_models(port, "sk-mine"):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    user = threading.Thread(target=use_and_interrupt)
    user.start()
    result = CliRunner().invoke(cli, ["emulator", "--port", str(port), "--api-key", "sk-mine"])
    user.join()
    assert result.exit_code == 130
    assert result.stdout == f"{BASE_URL_VARIABLE}=http://127.0.0.1:{port}\n{KEY_VARIABLE}=sk-mine\n"
    assert result.stderr == "serving the emulated API; Ctrl-C ends it, and it forgets its tasks\n"


def test_emulator_on_a_port_that_is_taken_says_so():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = CliRunner().invoke(cli, ["emulator", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "address already in use" in result.stderr


@pytest.mark.parametrize("speed", ["0", "-1", "nan"])
def test_emulator_with_a_speed_that_is_none_is_refused_as_a_wrong_command(speed):
    result = CliRunner().invoke(cli, ["emulator", "--speed", speed])
    assert result.exit_code == 2
    assert result.stderr == f"error: speed must be above 0; got {float(speed)}\n"


# As a process


class Command:
    """The command as a process of its own, with the lines of its stderr as they come."""

    def __init__(self, process):
        self.process = process
        self.stderr = ""

    @classmethod
    async def start(cls, *words, **environment):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", "-m", "lemon_async", *words),
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def says(self, words, times=1):
        """Read stderr until the words have come so often."""
        async with asyncio.timeout(20):
            while self.stderr.count(words) < times:
                line = await self.process.stderr.readline()
                assert line, f"ended without saying {words!r}: {self.stderr}"
                self.stderr += line.decode()

    async def interrupt(self, sign=signal.SIGINT):
        """Press Ctrl-C, or send another signal, and wait for the end; returns exit code and stdout."""
        self.process.send_signal(sign)
        return await self.end()

    async def end(self):
        async with asyncio.timeout(20):
            out, err = await self.process.communicate()
        self.stderr += err.decode()
        return self.process.returncode, out.decode()


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
async def test_signal_while_waiting_tells_how_to_pick_the_tasks_up(
    emulator, lemon, interruptible, tmp_path, sign, code
):
    """The tasks go on; each is picked up by the command that is told, and nothing is paid twice."""
    words = ["generate", "a cat", "a dog", "-m", "flux-pro", "-o", "out/", "--base-url", emulator.base_url]
    command = await Command.start(*words, **{KEY_VARIABLE: emulator.api_key})
    await command.says("accepted as ldtask_", times=2)
    assert await command.interrupt(sign) == (code, "")
    head, *commands = command.stderr.partition("interrupted; ")[2].splitlines()
    assert head == "these tasks go on and are billed. To pick them up again:"
    assert len(commands) == 2
    await all_settled(emulator)
    for told in commands:
        words = shlex.split(told)
        assert words[:2] == ["lemon-async", "task"]
        result = await asyncio.to_thread(CliRunner().invoke, cli, words[1:], env={KEY_VARIABLE: emulator.api_key})
        assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["out/a-cat.png", "out/a-dog.png"]
    assert emulator.ledger.sold == {"a cat": 1, "a dog": 1}


async def test_ctrl_c_while_a_paid_request_is_on_its_way_tells_of_the_doubt(emulator, interruptible):
    emulator.fault("submit", Blackhole())
    words = ["generate", "a cat", "--base-url", emulator.base_url]
    command = await Command.start(*words, **{KEY_VARIABLE: emulator.api_key})
    async with asyncio.timeout(20):
        while not emulator.ledger.sold:
            await asyncio.sleep(0.005)
    assert await command.interrupt() == (130, "")
    assert command.stderr.startswith("note: the paid request was sent, but its fate is unknown")
    assert "Traceback" not in command.stderr


async def test_emulator_tells_first_what_clients_need(interruptible):
    """The first two lines go into an environment; a session then works with them, and they say nothing else."""
    command = await Command.start("emulator", "--speed", "6000")
    async with asyncio.timeout(20):
        lines = [(await command.process.stdout.readline()).decode().strip() for _ in range(2)]
    assert [line.partition("=")[0] for line in lines] == [BASE_URL_VARIABLE, KEY_VARIABLE]
    base_url, key = (line.partition("=")[2] for line in lines)
    polling = PollPolicy(min_gap_s=0.01, max_gap_s=0.02)
    async with LemonSession(key, base_url=base_url, polling=polling) as session:
        images = await session.generate("a cat", model="flux-pro")
        assert (await images[0].read()).startswith(PNG)
    assert await command.interrupt() == (130, "")
    assert command.stderr == "serving the emulated API; Ctrl-C ends it, and it forgets its tasks\n"
