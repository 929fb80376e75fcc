"""`lemon-async` in a process of its own."""

import asyncio
import os
import signal
import sys

from command_forks import CommandForks

FORKS = CommandForks()


class Command:
    """The command in a separate process, with the lines of its stderr as they arrive."""

    def __init__(self, process):
        self.process = process
        self.stderr = ""

    @classmethod
    async def start(cls, *words, **environment):
        """Start the command in a fork."""
        return cls(await FORKS.start(words, {**os.environ, **environment}))

    @classmethod
    async def start_program(cls, *words, **environment):
        """Start an interpreter."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", *words),
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def wait_for(self, words, times=1):
        """Read stderr until the text has appeared this many times."""
        async with asyncio.timeout(60):
            while self.stderr.count(words) < times:
                line = await self.process.stderr.readline()
                assert line, f"ended without saying {words!r}: {self.stderr}"
                self.stderr += line.decode()

    async def interrupt(self, sign=signal.SIGINT):
        """Send SIGINT or another signal, and wait for the end; return exit code and stdout."""
        self.process.send_signal(sign)
        return await self.end()

    async def end(self, stdin=None):
        """Wait for the end; return exit code and stdout."""
        async with asyncio.timeout(60):
            out, err = await self.process.communicate(stdin)
        self.stderr += err.decode()
        return self.process.returncode, out.decode()
