"""Run a web application with several workers in processes of their own, and choose the worker that answers."""

import asyncio
import os
import re
import signal
import sqlite3
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import aiohttp

OPTIONS = ("--http", "h11", "--ws", "none", "--timeout-worker-healthcheck", "30", "--timeout-graceful-shutdown", "10")


class WebWorkers:
    """`uvicorn APP --workers N` as a context manager.

    Attributes:
        log: What it has printed, by line.
    """

    def __init__(self, app, workers, *, table):
        self.log = []
        self._command = (sys.executable, "-m", "uvicorn", app, "--workers", str(workers), "--port", "0", *OPTIONS)
        self._count = workers
        self._table = table

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda: self.find("startup complete") >= self._count)
        return self

    async def __aexit__(self, *_):
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its workers, too
        await self._process.wait()
        await self._reading

    async def _read(self):
        async for line in self._process.stderr:
            self.log.append(line.decode().rstrip())

    def find(self, text):
        """Count the lines of the log that contain a text."""
        return sum(text in line for line in self.log)

    async def until(self, condition):
        """Wait until a condition holds."""
        try:
            async with asyncio.timeout(180):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError("\n".join(self.log)) from None

    @property
    def pids(self):
        """The workers that have been started."""
        return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", "\n".join(self.log))]

    def browser(self):
        """Return a client with a new connection for each request."""
        port = re.search(r"http://127\.0\.0\.1:(\d+)", "\n".join(self.log))[1]
        return aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(force_close=True))

    async def terminate(self):
        """Stop the server as a service manager does."""
        self._process.terminate()
        await self.until(lambda: self._process.returncode is not None)

    @contextmanager
    def only(self, pid):
        """Let one worker answer: stop the others, at a moment when none of them has a lock on the table.

        The process that checks their health is stopped, too: it would wait for the response of one that is killed here.
        """
        others = [self._process.pid, *(other for other in self.pids if other != pid)]
        while not self._stop(others):
            send(others, signal.SIGCONT)
        try:
            yield
        finally:
            send(others, signal.SIGCONT)

    def _stop(self, pids):
        send(pids, signal.SIGSTOP)
        while not all(is_stopped(pid) for pid in pids):
            pass
        database = sqlite3.connect(self._table, timeout=0, isolation_level=None)
        with closing(database), suppress(sqlite3.OperationalError):
            database.execute("BEGIN EXCLUSIVE")
            return True
        return False


def send(pids, number):
    for pid in pids:
        os.kill(pid, number)


def is_stopped(pid):
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    with suppress(OSError):  # a thread has just ended
        return all(path.read_text().rpartition(")")[2].split()[0] == "T" for path in threads)
    return False
