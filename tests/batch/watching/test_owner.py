"""Whatever a process at the other end of the socket does, the question has an end."""

import asyncio
import socket

import pytest

from lemon_async.batch.watching import owner as module
from lemon_async.batch.watching.owner import OwnerGone, OwnerLink


@pytest.fixture
async def pair():
    ours, theirs = socket.socketpair()
    link = await OwnerLink.over(ours)
    theirs.setblocking(False)
    with theirs:
        yield link, theirs
    link.close()


async def test_question_is_answered(pair):
    link, theirs = pair
    asking = asyncio.create_task(link.ask(ask="rows", limit=3))
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(theirs, 100) == b'{"ask":"rows","limit":3}\n'
    await loop.sock_sendall(theirs, b'{"rows":[]}\n')
    assert await asking == {"rows": []}


@pytest.mark.parametrize("answer", [b"", b"{\n", b"[]\n", b'{"error":"no"}\n', b"\xff\n", b'{"rows"'])
async def test_answer_that_is_none_ends_the_link(pair, answer):
    """A half answer must not become the answer to the next question."""
    link, theirs = pair
    await asyncio.get_running_loop().sock_sendall(theirs, answer)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(OwnerGone):
        await link.ask(ask="summary")


async def test_owner_that_is_stopped_is_given_up(pair, monkeypatch):
    monkeypatch.setattr(module, "_ANSWER_WITHIN_S", 0.01)
    with pytest.raises(OwnerGone):
        await pair[0].ask(ask="summary")


async def test_answer_without_end_is_given_up(pair):
    """It is not collected without limit."""
    link, theirs = pair

    async def flood():
        while True:
            await asyncio.get_running_loop().sock_sendall(theirs, b"x" * 2**20)

    flooding = asyncio.create_task(flood())
    with pytest.raises(OwnerGone):
        await link.ask(ask="summary")
    with pytest.raises(ConnectionError):
        await flooding
