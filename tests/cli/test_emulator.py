"""The emulator as a server."""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from lemon_async.cli.commands import cli
from lemon_async.cli.emulator import _not_listening
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE
from servers import free_port


def wait_for_models(port, key):
    """Request the emulator's models until it responds; return whether it did."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"})
    for _ in range(12_000):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
    return False


@pytest.mark.parametrize("place", ["file", "environment"])
def test_emulator_serves_until_it_is_interrupted(interruptible, tmp_path, place):
    """A thread sends the signal of Ctrl-C. A key that the user chose is accepted and never printed."""
    port, seen = free_port(), []

    def use_and_interrupt():
        seen.append(wait_for_models(port, "sk-mine"))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    user = threading.Thread(target=use_and_interrupt)
    user.start()
    (tmp_path / "key").write_text("sk-mine\n")
    words = ["--api-key-file", "key"] if place == "file" else []
    environment = {KEY_VARIABLE: "sk-other" if place == "file" else "sk-mine"}
    result = CliRunner().invoke(cli, ["emulator", "--port", str(port), *words], env=environment)
    user.join()
    assert (result.exit_code, seen) == (130, [True])
    assert result.stdout == f"export {BASE_URL_VARIABLE}=http://127.0.0.1:{port}\n"
    assert result.stderr == (
        f"the studio is at http://127.0.0.1:{port}/\nserving the emulated API; Ctrl-C ends it and drops its tasks\n"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "--api-key-file: cannot read 'key': [Errno 2] No such file or directory"),
        (b"\xff\xfe", "--api-key-file: cannot read 'key': 'utf-8' codec"),
        (b"\n", "--api-key-file: 'key' holds no key (nothing was started)"),
        (b"sk-two words", "--api-key-file: contains a character that no key has"),
    ],
    ids=["none", "binary", "blank", "two words"],
)
def test_emulator_without_a_key_in_the_file_is_a_wrong_command_that_quotes_no_key(tmp_path, content, words):
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    result = CliRunner().invoke(cli, ["emulator", "--api-key-file", "key"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {words}")
    assert "sk-two" not in result.stderr


def test_emulator_on_a_port_that_is_taken_says_so():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(cli, ["emulator", "--port", str(port)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: --port: cannot listen on 127.0.0.1:{port}: ")
    assert "already in use" in result.stderr
    assert "(nothing was started)" in result.stderr


def test_host_that_has_no_address_is_named():
    """And a ledger whose file has gone since it was checked remains an error of that file."""
    error = _not_listening("nowhere", 0, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert str(error) == "--host: cannot listen on nowhere:0: Name or service not known (nothing was started)"
    gone = FileNotFoundError(2, "No such file or directory", "ledger.jsonl")
    assert _not_listening("127.0.0.1", 0, gone) is gone


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf"])
def test_speed_that_is_not_above_zero_is_a_wrong_command(speed):
    result = CliRunner().invoke(cli, ["emulator", "--speed", speed])
    assert result.exit_code == 2
    assert result.stderr == f"error: --speed: must be a number above 0, not {float(speed)} (nothing was started)\n"


def test_all_that_is_wrong_with_the_options_is_said_before_anything_is_served(tmp_path):
    (tmp_path / "faults.json").write_text('[{"route": "poll", "actions": [{"type": "Status"}]}, 1]')
    words = ["--speed", "0", "--balance", "nan", "--host", "", "--faults", "faults.json", "--ledger", "none/ledger"]
    result = CliRunner().invoke(cli, ["emulator", "--api-key-file", "none", *words])
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "error: 7 problems, nothing was started:"
    assert [line.split(": ")[0] for line in lines[1:]] == [
        "  - --speed", "  - --host", "  - --balance", "  - --api-key-file", "  - --faults", "  - --faults",
        "  - --ledger",
    ]  # fmt: skip
    assert "  - --faults: faults[0].actions[0].status: is required" in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--faults", "none"], "--faults: cannot read 'none': [Errno 2]"),
        (["--faults", "."], "--faults: cannot read '.': [Errno 21]"),
        (["--ledger", "."], "--ledger: cannot write '.': [Errno 21]"),
        (["--host", "192.0.2.1"], "error: "),
    ],
)
def test_what_cannot_be_opened_is_an_error(tmp_path, words, message):
    result = CliRunner().invoke(cli, ["emulator", *words])
    assert result.exit_code in {1, 2}
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ctrl_c_ends_the_waiting_for_faults_in_a_pipe(interruptible, tmp_path):
    """The event loop would keep it from the read."""
    os.mkfifo(tmp_path / "pipe")
    seen = []

    def write():
        with (tmp_path / "pipe").open("w") as pipe:  # waits for the command
            seen.append(signal.getsignal(signal.SIGINT))
            pipe.write("[")

    writer = threading.Thread(target=write)
    writer.start()
    result = CliRunner().invoke(cli, ["emulator", "--faults", "pipe"])
    writer.join()
    assert seen == [signal.default_int_handler]
    assert (result.exit_code, "--faults: this is not valid JSON" in result.stderr) == (2, True)


def test_a_rate_below_one_is_a_usage_error():
    assert CliRunner().invoke(cli, ["emulator", "--rpm", "0"]).exit_code == 2


def ask(port, path, body=None, key="sk-mine"):
    """Send one request; return its status and JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers), timeout=60
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_options_make_a_bad_day_for_programs_in_any_language(interruptible, tmp_path):
    """A fault from a file, a spent balance, a rate limit, and a ledger that is complete without a poll."""
    port, seen = free_port(), []
    (tmp_path / "faults.json").write_text(
        '[{"route": "submit", "actions": [{"type": "Status", "status": 502}], "nth": 1}]'
    )
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text('{"number": 1}')

    def entries():
        return [json.loads(line) for line in ledger.read_text().splitlines()]

    def use_and_interrupt():
        body = {"prompt": "a cat", "model": "flux-pro"}
        try:
            assert wait_for_models(port, "sk-mine")
            seen.extend(ask(port, "/v1/images/generations", body)[0] for _ in range(3))
            seen.append(len(entries()) >= 2)  # the reservation is there as soon as the answer; its end may be, too
            for _ in range(10_000):
                if len(entries()) == 3:
                    break
                time.sleep(0.005)
            # The limit holds for a minute, after which as many requests pass again.
            seen.append(any(ask(port, "/v1/models")[0] == 429 for _ in range(12)))
            seen.append(ask(port, "/")[0])
        finally:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    user = threading.Thread(target=use_and_interrupt)
    user.start()
    words = [
        "--host",
        "0.0.0.0",
        "--port",
        str(port),
        "--speed",
        "6000",
        "--rpm",
        "5",
        "--balance",
        "0.05",
        "--seed",
        "7",
    ]
    files = ["--faults", "faults.json", "--ledger", "ledger.jsonl"]
    result = CliRunner().invoke(cli, ["emulator", *words, *files], env={KEY_VARIABLE: "sk-mine"})
    user.join()
    assert result.exit_code == 130
    assert seen == [502, 200, 402, True, True, 200]
    assert "whoever opens the studio there has the key" in result.stderr
    old, reserved, settled = entries()
    assert old == {"number": 1}
    assert (reserved["kind"], settled["kind"], reserved["job"]) == ("reserve", "settle", "a cat")
    assert reserved["task_id"] == settled["task_id"]
    assert reserved["amount_usd"] == settled["amount_usd"] == 0.05
    assert time.time() - 120 < reserved["at"] <= settled["at"] < time.time() + 1
