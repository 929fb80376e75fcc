"""Clients of an owner may be slow, many or malicious: the run goes on."""

import asyncio
import json
import socket

import pytest

from journals import new_rows
from lemon_async.batch import State, open_journal
from lemon_async.batch.store.sqlite.socket_file import connect_to_owner
from lemon_async.batch.watching import row_server
from lemon_async.batch.watching.row_server import serving_rows


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture
async def journal(path):
    async with open_journal(path, create=True) as opened:
        await opened.add(new_rows(300))
        yield opened


@pytest.fixture
async def connect(path, journal):
    """Return connections to the owner."""
    writers = []

    async def connect():
        reader, writer = await asyncio.open_unix_connection(sock=connect_to_owner(path), limit=2**22)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()


@pytest.fixture
async def ask(connect):
    """Send a line, and return the answer; `None` if the connection was closed instead."""
    reader, writer = await connect()

    async def ask(line):
        writer.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
        async with asyncio.timeout(60):
            answer = await reader.readline()
        return json.loads(answer) if answer else None

    return ask


def rows(before=10**9, limit=10, states=()):
    return {"ask": "rows", "states": states, "before": before, "limit": limit}


async def test_summary_and_rows_are_read(ask):
    summary = await ask({"ask": "summary"})
    assert summary["counts"] == {**{state.value: 0 for state in State}, "new": 300}
    assert [row["key"] for row in (await ask(rows(limit=2)))["rows"]] == ["k299", "k298"]
    assert (await ask(rows(states=["done"])))["rows"] == []


@pytest.mark.parametrize(("limit", "number"), [(0, 1), (-5, 1), (201, 200), (10**30, 200)])
async def test_number_of_rows_is_bounded(ask, limit, number):
    assert len((await ask(rows(limit=limit))).get("rows", [])) in {number, 0}


@pytest.mark.parametrize("before", [-1, 0, 2**63, 2**64])
async def test_any_number_is_a_place(ask, before):
    assert "rows" in await ask(rows(before=before))


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"null", b'"ask"', b"\xff", b"{}", b'{"ask":1}', b'{"ask":"write_note"}',
        {"ask": "rows"}, rows(states=["stolen"]), rows(states=3), rows(before="1"), rows(limit=None),
    ],
)  # fmt: skip
async def test_question_that_makes_no_sense_is_an_error(ask, line):
    """And the next one is answered."""
    assert set(await ask(line)) == {"error"}
    assert "counts" in await ask({"ask": "summary"})


async def test_line_without_end_is_cut_off(connect):
    reader, writer = await connect()
    writer.write(b"x" * 20_000)
    async with asyncio.timeout(60):
        assert not await reader.read()


async def test_clients_beyond_the_limit_are_turned_away(connect, ask):
    """Those who came first are served."""
    others = [await connect() for _ in range(20)]
    assert "counts" in await ask({"ask": "summary"})
    async with asyncio.timeout(60):
        ends = [await reader.read() for reader, _ in others[10:]]
    assert ends == [b""] * 10


async def test_client_that_takes_no_answer_is_dropped(connect, monkeypatch):
    """It may fill its buffers, and no more."""
    monkeypatch.setattr(row_server, "_ANSWER_WITHIN_S", 0.05)
    monkeypatch.setattr(row_server, "_READ_EVERY_S", 0)
    reader, writer = await connect()
    reader._limit = 1  # it stops reading

    async def ask_on():
        while True:
            writer.write(json.dumps(rows(limit=200)).encode() + b"\n")
            await writer.drain()

    async with asyncio.timeout(60):
        with pytest.raises(ConnectionError):
            await ask_on()


async def test_silent_client_is_dropped(connect, monkeypatch):
    monkeypatch.setattr(row_server, "_IDLE_S", 0.01)
    reader, _ = await connect()
    async with asyncio.timeout(60):
        assert not await reader.read()


async def test_reads_of_all_clients_are_a_few_in_a_second(journal, connect):
    """A million rows are read by those who watch no faster than the run can bear."""
    clients = [await connect() for _ in range(2)]
    began = asyncio.get_running_loop().time()
    for _ in range(2):
        for _, writer in clients:
            writer.write(json.dumps(rows()).encode() + b"\n")
    for reader, _ in clients:
        for _ in range(2):
            assert "rows" in json.loads(await reader.readline())
    assert asyncio.get_running_loop().time() - began >= 0.59


async def test_leaving_does_not_wait_for_clients(path):
    """Nor does anything of them stay behind."""
    async with open_journal(path, create=True) as journal:
        await journal.add(new_rows(1))
        connected = [await asyncio.open_unix_connection(sock=connect_to_owner(path)) for _ in range(3)]
        before = asyncio.all_tasks()
        connected[0][1].write(b'{"ask":"summ')
        connected[1][1].write(b'{"ask":"summary"}\n')
    assert asyncio.all_tasks() <= before
    for _, writer in connected:
        writer.transport.abort()
    assert [file.name for file in path.parent.iterdir()] == ["run.db"]


async def test_journal_without_a_socket_is_not_served(journal):
    async with serving_rows(journal, None):
        assert await journal.rows(limit=1)


class BareLoop:
    """A loop that cannot wait for sockets, as on Windows."""

    def __init__(self, loop):
        self._loop = loop

    def __getattr__(self, name):
        if name == "add_reader":
            raise NotImplementedError
        return getattr(self._loop, name)


async def test_loop_that_cannot_wait_for_sockets_runs_the_batch(journal, monkeypatch):
    """The socket is closed, so that those who watch know at once."""
    ours, theirs = socket.socketpair()
    bare = BareLoop(asyncio.get_running_loop())
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: bare)
    async with serving_rows(journal, ours):
        monkeypatch.undo()
        assert not theirs.recv(1)
    theirs.close()


async def test_listener_that_fails_is_given_up(journal):
    """Such as without free file descriptors: it would keep the loop busy for ever."""
    listener = socket.socket()  # does not listen
    async with serving_rows(journal, listener):
        async with asyncio.timeout(60):
            while listener.fileno() >= 0:
                await asyncio.sleep(0.01)
        assert await journal.rows(limit=1)
