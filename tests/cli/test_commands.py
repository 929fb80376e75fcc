"""The command as a whole, and the emulator as a server."""

import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from lemon_async.cli.commands import cli
from lemon_async.client.key import KEY_VARIABLE
from lemon_async.client.settings import BASE_URL_VARIABLE


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
