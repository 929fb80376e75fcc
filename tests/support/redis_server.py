"""A Redis server of its own for a test: in a temporary folder, on a free port, without persistence by default."""

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest

from servers import free_port

__all__ = ["RedisServer", "shared_redis"]

_PATIENCE_S = 120


class RedisServer:
    """`redis-server` or `valkey-server`; the test is skipped where neither is installed.

    Attributes:
        port: Its port on 127.0.0.1; a restart keeps it.
        folder: What it persists, its log and its Unix socket, `redis.sock`.
        url: Its address, with the password.
    """

    def __init__(self, *, password="", is_persistent=False, options=()):
        self._program = shutil.which("redis-server") or shutil.which("valkey-server")
        if self._program is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.url = f"redis://:{password}@127.0.0.1:{self.port}" if password else f"redis://127.0.0.1:{self.port}"
        self._options = [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--unixsocket", str(self.folder / "redis.sock"), "--logfile", str(self.folder / "log")),
            *("--save", "", "--appendonly", "yes" if is_persistent else "no", "--appendfsync", "always"),
            *(("--requirepass", password) if password else ()),
            *options,
        ]
        self._process = None
        self.start()

    @property
    def pid(self):
        """The id of its process."""
        return self._process.pid

    def start(self):
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen([self._program, *self._options], stdout=subprocess.DEVNULL)
        patience_ends_at = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < patience_ends_at
            time.sleep(0.005)

    def stop(self):
        """End it; it persists what it should, and closes its connections."""
        self._end(signal.SIGTERM)

    def kill(self):
        """End it without any chance to persist anything."""
        self._end(signal.SIGKILL)

    def pause(self):
        """Let it hang: it accepts connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        """End a pause."""
        self._process.send_signal(signal.SIGCONT)

    def close(self):
        """End it for good, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _end(self, number):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
        self._process.wait(_PATIENCE_S)

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(100)
        except OSError:
            return False
        return answer.startswith((b"+PONG", b"-NOAUTH"))


@cache
def shared_redis():
    """Return the one server of this process for tests that neither stop it nor look at other tests' keys."""
    server = RedisServer()
    atexit.register(server.close)
    return server
