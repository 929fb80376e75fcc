"""Run servers and clients in separate processes."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def served(module: str = "benchmarks.stub", *arguments: str) -> AsyncGenerator[str, None]:
    """Run a module that prints its port and serves, and return its address."""
    command = [sys.executable, "-m", module, *arguments]
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        yield f"http://127.0.0.1:{int(await server.stdout.readline())}"
    finally:
        server.kill()
        await server.wait()


async def measured(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module in a new process, and return the JSON object that it prints.

    Raises:
        RuntimeError: Its exit code is not 0.
    """
    command = [sys.executable, "-m", module, *arguments]
    client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await client.communicate()
    if client.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {client.returncode}")
    figures: dict[str, Any] = json.loads(output)
    return figures
