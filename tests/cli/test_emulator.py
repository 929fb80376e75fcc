"""The emulator as a server."""

import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from lemon_async.cli.commands import cli
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_models(port, key):
    """Request the emulator's models until it responds; return whether it did."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"})
    for _ in range(1000):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
    return False


@pytest.mark.parametrize("place", ["file", "environment"])
def test_emulator_serves_until_it_is_interrupted(interruptible, tmp_path, place):
    """A thread sends the signal of Ctrl-C. A key that the user chose is accepted and never printed."""
    port = free_port()

    def use_and_interrupt():
        if wait_for_models(port, "sk-mine"):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    user = threading.Thread(target=use_and_interrupt)
    user.start()
    (tmp_path / "key").write_text("sk-mine\n")
    words = ["--api-key-file", "key"] if place == "file" else []
    environment = {KEY_VARIABLE: "sk-other" if place == "file" else "sk-mine"}
    result = CliRunner().invoke(cli, ["emulator", "--port", str(port), *words], env=environment)
    user.join()
    assert result.exit_code == 130
    assert result.stdout == f"export {BASE_URL_VARIABLE}=http://127.0.0.1:{port}\n"
    assert result.stderr == "serving the emulated API; Ctrl-C ends it and drops its tasks\n"


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
        result = CliRunner().invoke(cli, ["emulator", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "address already in use" in result.stderr


@pytest.mark.parametrize("speed", ["0", "-1", "nan"])
def test_speed_that_is_not_above_zero_is_a_wrong_command(speed):
    result = CliRunner().invoke(cli, ["emulator", "--speed", speed])
    assert result.exit_code == 2
    assert result.stderr == f"error: --speed: must be above 0, not {float(speed)} (nothing was started)\n"
