"""Serve the rows of a journal on a socket: a line of JSON asks, a line of JSON answers. Read-only.

    {"ask": "summary"}                                      -> {"counts": …, "spending": …, "runs": …, "owner": …, …}
    {"ask": "rows", "states": […], "before": n, "limit": n} -> {"rows": […]}
    anything else                                           -> {"error": "…"}

The run comes first. All clients together get a few answers in a second, each from a short read in the journal's thread;
a client has a limited time to ask and to take its answer; there are few clients; and no fault of theirs is raised.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import orjson

from lemon_async.batch.journal import Journal
from lemon_async.batch.states import State
from lemon_async.batch.watching.summary import sum_up
from lemon_async.batch.watching.wire import rows_out, to_line
from lemon_async.errors import JournalError

__all__ = ["MOST_NUMBER", "serving_rows"]

logger: logging.Logger = logging.getLogger("lemon_async")

MOST_NUMBER = 2**63 - 1
_MOST_ROWS = 200
_MOST_CLIENTS = 8
_MOST_ASKED = 4096  # bytes
_READ_EVERY_S = 0.2
_IDLE_S = 60.0
_ANSWER_WITHIN_S = 10.0


@asynccontextmanager
async def serving_rows(journal: Journal, listener: socket.socket | None) -> AsyncGenerator[None, None]:
    """Serve a journal during the block, if there is a socket that listens; the block closes it."""
    if listener is None:
        yield
        return
    server = _RowServer(journal, listener)
    try:
        server.start()
        yield
    finally:
        await server.aclose()


class _RowServer:
    """Answers clients, one read at a time.

    It accepts connections itself: one that `asyncio.Server` accepts while it is closed stays open (Python 3.11).
    """

    def __init__(self, journal: Journal, listener: socket.socket) -> None:
        self._journal = journal
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._clients: set[asyncio.Task[None]] = set()
        self._reading = asyncio.Lock()
        self._due = 0.0
        self._summary: tuple[float, Mapping[str, Any]] = (0.0, {})
        self._owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}

    def start(self) -> None:
        self._listener.setblocking(False)
        try:
            self._loop.add_reader(self._listener, self._accept)
        except NotImplementedError:
            self._stop("this event loop cannot wait for a socket")

    def _stop(self, why: object) -> None:
        logger.debug("the rows are not served: %s", why)
        with suppress(NotImplementedError, ValueError):
            self._loop.remove_reader(self._listener)
        self._listener.close()

    async def aclose(self) -> None:
        self._stop("the journal is closed")
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait([*self._clients])

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as fault:  # such as too many open files: the loop would call this again and again
            self._stop(fault)
            return
        if len(self._clients) >= _MOST_CLIENTS:
            connection.close()
            return
        client = self._loop.create_task(self._serve(connection), name="lemon_async row client")
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)
        client.add_done_callback(lambda _: connection.close())  # it may have been cancelled before it began

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_MOST_ASKED)
        try:
            while asked := await asyncio.wait_for(reader.readline(), _IDLE_S):
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    answer = await self._answer(asked)
                    writer.write(await asyncio.to_thread(to_line, answer))  # it may be a megabyte
                    await writer.drain()
        except Exception as fault:  # noqa: BLE001 - a client harms nothing
            logger.debug("a client of the rows was dropped: %r", fault)
        finally:
            writer.transport.abort()

    async def _answer(self, asked: bytes) -> Mapping[str, Any]:
        try:
            question = orjson.loads(asked)
            if question["ask"] == "summary":
                return await self._sum_up()
            if question["ask"] == "rows":
                states = [State(word) for word in question["states"]]
                return await self._rows(states, question["before"], question["limit"])
        except (KeyError, TypeError, ValueError) as fault:
            return {"error": f"not understood: {fault!r}"}
        except JournalError as fault:
            return {"error": str(fault)}
        return {"error": "not understood"}

    async def _sum_up(self) -> Mapping[str, Any]:
        async with self._reading:
            until, summary = self._summary
            if time.monotonic() >= until:
                summary = attrs.evolve(await sum_up(self._journal), owner=self._owner).as_json()
                self._summary = time.monotonic() + _READ_EVERY_S, summary
            return summary

    async def _rows(self, states: list[State], before: int, limit: int) -> Mapping[str, Any]:
        before, limit = min(max(before, 0), MOST_NUMBER), min(max(limit, 1), _MOST_ROWS)
        async with self._reading:
            await asyncio.sleep(self._due - time.monotonic())
            rows = await self._journal.last_rows(*states, before=before, limit=limit)
            self._due = time.monotonic() + _READ_EVERY_S
        return {"rows": await asyncio.to_thread(rows_out, rows)}
