"""Run `lemon-async` in forks of one interpreter that has imported it: to start one each time takes half a second.

As a program, this file is that interpreter. It gets words, an environment, a folder, and the descriptors of stdin,
stdout, stderr and of a pipe, into which it writes the id of the fork and, when it has ended, its exit code.
"""

import asyncio
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import lemon_async.cli
from lemon_async.batch import threaded_journal

PIECE_BYTES = 64 * 1024


class ForkedProcess:
    """A fork, with the part of `asyncio.subprocess.Process` that tests use."""

    def __init__(self, stdin, stdout, stderr, status):
        self.stdout = stdout
        self.stderr = stderr
        self.pid = self.returncode = None
        self._stdin = stdin
        self._status = status

    async def started(self):
        """Wait until it has an id."""
        self.pid = int(await self._status.readline())
        return self

    async def wait(self):
        """Wait for the end; return the exit code, which is negative for a signal."""
        if self.returncode is None:
            self.returncode = int(await self._status.read())
            self._close_stdin()
        return self.returncode

    async def communicate(self, stdin=None):
        """Write to stdin no more than a pipe holds, and close it; return what is left of stdout and stderr."""
        if stdin:
            os.write(self._stdin, stdin)
        self._close_stdin()
        found = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return tuple(found)

    def send_signal(self, sign):
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sign)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _close_stdin(self):
        if self._stdin is not None:
            os.close(self._stdin)
        self._stdin = None


class CommandForks:
    """Starts forks; the interpreter is started with the first one."""

    def __init__(self):
        self._server = None
        self._channel = None

    async def start(self, words, environment):
        """Run the command in the current folder."""
        if self._server is None:
            self._open()
        stdin, *outputs = (os.pipe() for _ in range(4))
        theirs = [stdin[0], *(write for _, write in outputs)]
        request = json.dumps([words, environment, str(Path.cwd())]).encode() + b"\n"
        socket.send_fds(self._channel, [request], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        readers = [await reader_of(read) for read, _ in outputs]
        return await ForkedProcess(stdin[1], *readers).started()

    def _open(self):
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-W", "error", __file__, str(theirs.fileno())]
            environment = {**os.environ, "PYTHONUTF8": "1"}
            null = subprocess.DEVNULL
            self._server = subprocess.Popen(
                command, env=environment, stdin=null, stdout=null, pass_fds=[theirs.fileno()]
            )

    def close(self):
        """End the interpreter; forks go on."""
        if self._server is not None:
            self._channel.close()
            self._server.wait()
            self._server = None


async def reader_of(descriptor):
    """Return a stream that reads a pipe."""
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", buffering=0)  # the transport closes it
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def serve(channel):
    """Fork for each request; return in the fork that becomes the command, and exit at the end of requests."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not awaited
    while True:
        request, files, *_ = socket.recv_fds(channel, PIECE_BYTES, 4)
        if not request:
            os._exit(0)
        while not request.endswith(b"\n"):
            request += channel.recv(PIECE_BYTES)
        if not os.fork():
            channel.close()
            keep(files[-1])
            become(files, *json.loads(request))
            return
        for descriptor in files:
            os.close(descriptor)


def keep(status):
    """Fork, and return in the fork; this process waits for its end, and tells it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        os.write(status, b"%d\n" % pid)
        os.closerange(0, status)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)


def become(files, words, environment, folder):
    """Make this process one that a shell has just started."""
    for target, descriptor in enumerate(files[:3]):
        os.dup2(descriptor, target)
    for descriptor in files:
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if the tests run in the background
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["lemon-async", *words]


if __name__ == "__main__":
    for name in ("batch.journals", "batch.run", "catalog", "commands", "emulator", "generate"):
        importlib.import_module(f"lemon_async.cli.{name}")
    threaded_journal._CLOSE_WITHIN_S = 60.0  # as in `conftest.py`: a disk may be busy
    gc.freeze()  # forks then end sooner
    serve(socket.socket(fileno=int(sys.argv[1])))
    lemon_async.cli.main()
