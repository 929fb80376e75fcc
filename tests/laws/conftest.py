"""A server that must not be reached, and the ways to spend money."""

import io
from collections.abc import Callable
from itertools import count

import attrs
import pytest

from lemon_async import EditRequest, GenerateRequest


@attrs.define
class OtherServer:
    """A server that is not the API and records what it receives."""

    authority: str = ""
    requests: list = attrs.field(factory=list)

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head.decode("latin-1"))
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()


@pytest.fixture
async def other_server(listen):
    """A second server that is not the API."""
    other = OtherServer()
    other.authority = (await listen(other.serve)).removeprefix("http://")
    return other


@attrs.frozen
class Paid:
    """One way to spend money: how a prompt becomes a request, how that is sent, and the name of its route in faults."""

    route: str
    request: Callable
    send: Callable


@pytest.fixture(params=["generate", "edit with uploads", "edit of stored files", "stream"])
async def paid(request, picture, connect):
    """Each way to spend money; pictures are tiny, so that they are drawn quickly."""
    small = picture(mode="RGB")

    async def read_all(session, wish):
        async with session.stream(wish) as stream:
            async for _ in stream:
                pass
            return stream.images

    async def submit(session, wish):
        return await session.submit(wish)

    if request.param == "generate":
        return Paid("submit", lambda prompt: GenerateRequest(prompt, model="flux-pro"), submit)
    if request.param == "edit with uploads":
        return Paid(
            "edit", lambda prompt: EditRequest(prompt, image=[small, io.BytesIO(small)], model="flux-pro"), submit
        )
    if request.param == "edit of stored files":
        async with connect() as session:
            stored = await session.files.upload(small, model="flux-pro")
        return Paid("edit", lambda prompt: EditRequest(prompt, image=stored, model="flux-pro"), submit)
    wish = {"image": small, "model": "gpt-image-2", "partial_images": 1}
    return Paid("edit", lambda prompt: EditRequest(prompt, **wish), read_all)


@pytest.fixture
def new_journal(postgres):
    """Make addresses of new journals that processes can share."""
    database, numbers = postgres.new_database(), count()
    return lambda: f"{database}?schema=s{next(numbers)}"
