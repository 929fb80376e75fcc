"""Law 7. The loop stays free: other tasks run while pictures of any size arrive."""

import asyncio
import base64
import gzip

import orjson
import pytest

from lemon_async import LemonSession, RetryPolicy
from lemon_async._api.stream_events import EventSplitter
from lemon_async._formats.base64_json import PIECE_BYTES, Base64Extractor
from servers import listening

PICTURE = bytes(range(256)) * 8192  # 2 MiB
TEXT = base64.b64encode(PICTURE).decode()
ANSWER = orjson.dumps({"created": 1, "data": [{"b64_json": TEXT} for _ in range(4)]})
EVENT = b'data: {"type": "image_generation.completed", "b64_json": "%b"}\n\n' % TEXT.encode()
BYTES_PER_TURN = 4 * PIECE_BYTES
EVENTS_PIECE_BYTES = 4 * 1024


@pytest.fixture
def fed(monkeypatch):
    """Record the size of each piece that extractors are fed, with the number of loop iterations until then."""
    return noted(monkeypatch, Base64Extractor)


def noted(monkeypatch, reader):
    sizes, turns = [], [0]
    feed = reader.feed

    def noting(self, piece):
        sizes.append((len(piece), turns[0]))
        return feed(self, piece)

    monkeypatch.setattr(reader, "feed", noting)
    return sizes, turns


async def counting(turns):
    while True:
        await asyncio.sleep(0)
        turns[0] += 1


def responding(body, *head):
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *head, "Connection: close", "", ""]

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return listening(answer)


async def most_per_turn(fed, body, *head, answers, is_stream=False):
    """Return the largest piece, the most bytes in one turn of the loop, and the bytes of all pictures."""
    sizes, turns = fed
    ticking = asyncio.create_task(counting(turns))
    once = RetryPolicy(max_elapsed_s=0)
    async with responding(body, *head) as origin, LemonSession("sk-x", base_url=origin, retry=once) as session:

        async def pictures():
            if not is_stream:
                return await session.generate("a cat", model="gpt-image-2", n=4)
            async with session.stream("a cat", model="gpt-image-2") as stream:
                return [picture async for picture in stream]

        results = await asyncio.gather(*(pictures() for _ in range(answers)))
    ticking.cancel()
    by_turn = {}
    for size, turn in sizes:
        by_turn[turn] = by_turn.get(turn, 0) + size
    came = sum(image.data.inline.size_bytes for images in results for image in images)
    return max(size for size, _ in sizes), max(by_turn.values()), came


@pytest.mark.parametrize("answers", [1, 6])
@pytest.mark.parametrize("is_packed", [False, True])
async def test_arriving_pictures_let_other_tasks_run(fed, answers, is_packed):
    """Few pieces are processed per iteration of the loop, for any number of responses, compressed or not."""
    body = gzip.compress(ANSWER, 1) if is_packed else ANSWER
    head = ["Content-Type: application/json", *(["Content-Encoding: gzip"] if is_packed else [])]
    at_once, in_a_turn, came = await most_per_turn(fed, body, *head, answers=answers)
    assert came == answers * 4 * len(PICTURE)
    assert at_once <= PIECE_BYTES
    assert in_a_turn <= BYTES_PER_TURN


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(
    "before", [b"", b"\n" * 250_000 + b"data:x\n\n" * 12_000], ids=["a picture", "much of nothing before it"]
)
async def test_stream_lets_other_tasks_run(monkeypatch, before, is_packed):
    """Few kilobytes are processed per iteration of the loop, although far more have arrived."""
    fed = noted(monkeypatch, EventSplitter)
    body = gzip.compress(before + EVENT, 1) if is_packed else before + EVENT
    head = ["Content-Type: text/event-stream", *(["Content-Encoding: gzip"] if is_packed else [])]
    at_once, in_a_turn, came = await most_per_turn(fed, body, *head, answers=1, is_stream=True)
    assert came == len(PICTURE)
    assert at_once <= EVENTS_PIECE_BYTES
    assert in_a_turn <= 2 * EVENTS_PIECE_BYTES
