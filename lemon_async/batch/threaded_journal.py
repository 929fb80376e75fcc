"""A synchronous store as a journal for asyncio.

One thread owns the store. Calls are queued in their order; the thread takes all that wait, writes their changes in
one transaction with one sync (group commit), and hands all results to the event loop in one call. So a change costs a
few microseconds under load, and one sync when it is alone.

After the first error of a write nothing is written any more: an error of a sync says that the past is in doubt, and
trying again may succeed without having saved it. Everything queued and later raises that error; reads still work.
A store in a network reconnects by itself first, so that its errors are as final as those of a disk.
"""

import asyncio
import copy
import os
import queue
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import anyio
import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.records import Change, Claim, JournalRow, NewRow, Spending
from lemon_async.batch.states import State
from lemon_async.batch.store.faults import refusal
from lemon_async.batch.store.store import Store
from lemon_async.batch.watching.row_server import MOST_NUMBER, serving_rows
from lemon_async.errors import ContractError, JournalError

__all__ = ["open_threaded"]

_MOST_IN_GROUP = 1000
_TEND_EVERY_S = 1.0
_CLOSE_WITHIN_S = 5.0
# After a group of fewer than `_LARGE` changes the thread lets others come for a while, as PostgreSQL's `commit_delay`:
# a transaction costs as much CPU as twenty changes. If fewer than two came, it does not try again for some groups.
_GATHER_S = 0.008
_LARGE = 32
_NO_GATHERING = 16

T = TypeVar("T")
Item = tuple[Any, asyncio.Future[Any]]  # a change or a call, and its waiter
Result = tuple[asyncio.Future[Any], Any]


@attrs.frozen(eq=False)
class _Call:
    """A call of the store that is no change."""

    work: Callable[[Store], Any]
    is_write: bool


@asynccontextmanager
async def open_threaded(
    name: str, open_store: Callable[[], Store], *, folder: Path | None, medium: str = "the disk"
) -> AsyncGenerator[Journal, None]:
    """Open a store in a thread of its own.

    Args:
        name: The path or address of the store, without credentials.
        open_store: Opens the store; called in the thread.
        folder: As `Journal.folder`; `None` if other processes share the journal.
        medium: What a change waits for, in messages.

    Raises:
        JournalError: It cannot be opened. On leaving: what was queued could not be written.
    """
    journal = _ThreadedJournal(name, open_store, folder, medium)
    try:
        await journal.start()
        async with serving_rows(journal, await journal.listen()):
            yield journal
    finally:
        await journal.aclose()


class _ThreadedJournal:
    """See `Journal`; the methods after `_run` run in the thread."""

    def __init__(self, name: str, open_store: Callable[[], Store], folder: Path | None, medium: str) -> None:
        self._name = name
        self._open_store = open_store
        self._folder = folder
        self._medium = medium
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._taken: Sequence[Item] = ()
        self._store: Store | None = None
        self._failure: JournalError | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._is_closing = False
        self._groups_to_skip = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def folder(self) -> Path | None:
        return self._folder

    @property
    def is_shared(self) -> bool:
        return self._folder is None

    def __repr__(self) -> str:
        return f"<Journal {self.name!r}>"

    async def start(self) -> None:
        try:
            threading.Thread(target=self._run, name="lemon_async journal", daemon=True).start()
        except RuntimeError as failure:
            self._closed.set_result(None)
            raise refusal(self._name, f"{failure}; the process or its user has too many") from failure
        await self._opened

    async def listen(self) -> socket.socket | None:
        return await self._call(lambda store: store.listen())

    def record(self, change: Change) -> "asyncio.Future[State | None]":
        return self._put(change)

    async def add(self, rows: Sequence[NewRow]) -> int:
        return await self._call(lambda store: store.add(rows), is_write=True)

    async def check(self, rows: Sequence[NewRow]) -> None:
        await self._call(lambda store: store.check(rows))

    async def rows(self, *states: State, after: int = -1, limit: int = 1000) -> Sequence[JournalRow]:
        return await self._call(lambda store: store.rows(states, after, limit))

    async def last_rows(self, *states: State, before: int | None = None, limit: int = 1000) -> Sequence[JournalRow]:
        end = MOST_NUMBER if before is None else before
        return await self._call(lambda store: store.last_rows(states, end, limit))

    async def claim(
        self, run: str, *states: State, after: int = -1, limit: int = 1000, keys: Sequence[str] | None = None
    ) -> Claim:
        return await self._call(lambda store: store.claim(run, states, after, limit, keys))

    async def release(self, run: str) -> None:
        await self._call(lambda store: store.release(run))

    async def runs(self) -> int:
        return await self._call(lambda store: store.runs())

    async def find(self, key: str) -> JournalRow | None:
        return await self._call(lambda store: store.find(key))

    async def counts(self) -> Mapping[State, int]:
        return await self._call(lambda store: store.counts())

    async def spending(self) -> Spending:
        return await self._call(lambda store: store.spending())

    async def owner_of(self, path: str) -> str | None:
        return await self._call(lambda store: store.owner_of(path))

    async def read_note(self, name: str) -> str | None:
        return await self._call(lambda store: store.read_note(name))

    async def write_note(self, name: str, text: str) -> None:
        await self._call(lambda store: store.write_note(name, text), is_write=True)

    async def aclose(self) -> None:
        failed_before = self._failure
        if not self._is_closing:
            self._is_closing = True
            self._queue.put(None)
        try:
            await asyncio.wait([self._closed], timeout=_CLOSE_WITHIN_S)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._closed], timeout=_CLOSE_WITHIN_S)
            raise
        finally:
            if not self._closed.done():
                self._abandon()
        if self._failure is not None and failed_before is None:
            raise copy.copy(self._failure)

    def _call(self, work: Callable[[Store], T], *, is_write: bool = False) -> asyncio.Future[T]:
        return self._put(_Call(work, is_write))

    def _put(self, work: Change | _Call) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._is_closing:
            _settle([(future, refusal(self._name, "it is closed"))])
        elif os.getpid() != self._pid:
            _settle([(future, refusal(self._name, "it was opened before a fork; open it in the new process"))])
        else:
            self._queue.put((work, future))
        return future

    def _abandon(self) -> None:
        """Give up the thread, which hangs or has ended, and fail everything that waits for it."""
        self._is_closing = True
        if self._store is not None:
            self._store.give_up()
        _settle([(self._closed, None)])
        words = f"{self._medium} has not responded within {_CLOSE_WITHIN_S:g} s; the last changes may be missing"
        self._failure = self._failure or refusal(self._name, words)
        waiting = [*self._taken]
        with suppress(queue.Empty):
            while True:
                if item := self._queue.get_nowait():
                    waiting.append(item)
        self._queue.put(None)
        _settle([(future, copy.copy(self._failure)) for _, future in waiting])

    def _run(self) -> None:
        """Own the connection, from opening to closing."""
        try:
            store = self._store = self._open_store()
        except Exception as failure:  # noqa: BLE001 - raised where the journal is opened
            self._post([(self._opened, self._error(failure)), (self._closed, None)])
            return
        try:
            self._post([(self._opened, None)])
            self._serve(store)
        except Exception as bug:  # noqa: BLE001 - raised in every waiter
            self._fail(bug)
            self._loop.call_soon_threadsafe(self._abandon)
        finally:
            store.close()
            self._post([(self._closed, None)])

    def _serve(self, store: Store) -> None:
        is_last = False
        while not is_last:
            self._taken, is_last = self._take()
            results: list[Result] = []
            for kind, items in groupby(self._taken, key=lambda item: type(item[0])):
                do = self._commit if kind is Change else self._answer
                results += do(store, [*items])
            self._post(results)
            size, self._taken = len(self._taken), ()
            self._tend(store)
            if not is_last:
                self._gather(size)

    def _tend(self, store: Store) -> None:
        if self._failure is None:
            try:
                store.tend()
            except JournalError as failure:
                self._fail(failure)

    def _gather(self, size: int) -> None:
        """Let more changes come before the next transaction, if the last one was small."""
        if not size or size >= _LARGE:
            return
        if self._groups_to_skip:
            self._groups_to_skip -= 1
            return
        time.sleep(_GATHER_S)
        if self._queue.qsize() < 2:
            self._groups_to_skip = _NO_GATHERING

    def _take(self) -> tuple[Sequence[Item], bool]:
        """Wait for the queue, and return what is in it, and whether that is all there will be."""
        items: list[Item] = []
        with suppress(queue.Empty):
            item = self._queue.get(timeout=_TEND_EVERY_S)
            while item is not None:
                items.append(item)
                if len(items) == _MOST_IN_GROUP:
                    return items, False
                item = self._queue.get_nowait()
            return items, True
        return items, False

    def _commit(self, store: Store, items: Sequence[Item]) -> list[Result]:
        changes, futures = zip(*items, strict=True)
        failure = self._failure
        if failure is None:
            try:
                return [*zip(futures, store.apply(changes), strict=True)]
            except Exception as error:  # noqa: BLE001 - raised in every waiter
                failure = self._fail(error)
        return [(future, copy.copy(failure)) for future in futures]

    def _answer(self, store: Store, items: Sequence[Item]) -> list[Result]:
        return [(future, self._result(store, call)) for call, future in items]

    def _result(self, store: Store, call: _Call) -> Any:
        if call.is_write and self._failure is not None:
            return copy.copy(self._failure)
        try:
            return call.work(store)
        except ContractError as refused:
            return refused
        except Exception as failure:  # noqa: BLE001 - raised where it is awaited
            return self._fail(failure) if call.is_write else self._error(failure)

    def _fail(self, failure: Exception) -> JournalError:
        """Write nothing any more."""
        self._failure = self._error(failure)
        return copy.copy(self._failure)

    def _error(self, failure: Exception) -> JournalError:
        if isinstance(failure, JournalError):
            return failure
        error = refusal(self._name, f"unexpected {failure!r}")
        error.__cause__ = failure
        return error

    def _post(self, results: Sequence[Result]) -> None:
        """Give results to their waiters, in the thread of the event loop."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(_settle, results)


def _settle(results: Sequence[Result]) -> None:
    for future, result in results:
        if future.done():  # its waiter was cancelled
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
            future.exception()  # asyncio need not log it: every later call raises it, too
        else:
            future.set_result(result)
