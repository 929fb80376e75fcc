"""Streamed answers: the previews and pictures of one job as server-sent events, each when its time has come.

The events are those of OpenAI's image streaming. Previews show the first picture, a little sharper
each time, and are spread evenly over the job; all its pictures follow when it is done. Their `usage`
adds up to that of the job: the first picture carries what was read, each what was drawn. A failed job
says so in an `error` event, because the status 200 has long been sent.
"""

import asyncio
import binascii
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Literal

import orjson
from attrs import frozen

from lemon_async.emulator.actions import Answer, Fail, Result, Stuck
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.messages import Reply
from lemon_async.emulator.service.pricing import usage
from lemon_async.emulator.service.tasks import Task, override
from lemon_async.emulator.service_errors import ServiceError

STREAM_TYPE = "text/event-stream"

# What the type of an event begins with.
Kind = Literal["image_generation", "image_edit"]

# A preview holds one pixel of the picture in so many, along each edge; the last one is the sharpest.
_COARSENESS = 32


@frozen
class ImageStream:
    """A sold job whose answer is streamed.

    Args:
        task: The job.
        kind: Whether something is generated or edited.
        pictures: What the job draws, one per image.
        studio: Who draws.
        clock: When previews and pictures are due.
    """

    task: Task
    kind: Kind
    pictures: Sequence[Picture]
    renderer: Renderer
    clock: Clock

    def reply(self, headers: Mapping[str, str]) -> Reply:
        """The answer; its head goes out at once."""
        headers = {"Cache-Control": "no-cache", **headers}
        return Reply(200, content_type=STREAM_TYPE, headers=headers, chunks=self.events())

    async def events(self) -> AsyncGenerator[bytes]:
        """The events in their order; each is yielded when it is due."""
        for index, due_at in enumerate(self.preview_times()):
            await self._wait(due_at)
            yield await self._preview(index)
        await self._wait(self.task.done_at)
        if self.task.find(Stuck):
            await asyncio.get_running_loop().create_future()
        fail = self.task.find(Fail)
        if fail is not None:
            yield failure(fail)
            return
        async for event in self._completed():
            yield event

    def preview_times(self) -> Iterator[float]:
        """When previews are due: they part the time of the job evenly."""
        begin, end = self.task.born_at, self.task.done_at
        parts = self.task.spec.previews + 1
        return (begin + (end - begin) * part / parts for part in range(1, parts))

    async def _wait(self, until: float) -> None:
        """Sleep to an emulated time."""
        await asyncio.sleep(max(0.0, (until - self.clock.now()) / self.clock.speed))

    async def _preview(self, index: int) -> bytes:
        file = await self.renderer.preview(self.pictures[0], coarseness=_COARSENESS >> index)
        return self._event("partial_image", {"b64_json": _base64(file), "partial_image_index": index})

    async def _completed(self) -> AsyncGenerator[bytes]:
        """One event for each picture, or for each piece of a scripted result."""
        result = self.task.find(Result)
        if result is not None:
            for piece in result.data:
                yield self._event("completed", piece) if isinstance(piece, Mapping) else _encode("completed", piece)
            return
        shares = _shares(usage(self.task.spec), len(self.pictures))
        for picture, share in zip(self.pictures, shares, strict=True):
            file = await self.renderer.draw(picture)
            yield self._event("completed", {"b64_json": _base64(file), **share})

    def _event(self, step: str, fields: Mapping[str, Any]) -> bytes:
        spec = self.task.spec
        width, height = spec.size
        name = f"{self.kind}.{step}"
        event = {
            "type": name,
            "created_at": int(self.clock.unix()),
            "size": f"{width}x{height}",
            "quality": spec.quality,
            "background": "transparent" if spec.is_transparent else "opaque",
            "output_format": spec.format,
            **fields,
        }
        return _encode(name, override(event, self.task.find(Answer) if step == "completed" else None))


def failure(fail: Fail) -> bytes:
    """The event of a job that failed; an error object keeps its code."""
    error = fail.error if isinstance(fail.error, Mapping) else {"message": fail.error}
    problem = ServiceError(502, error.get("code"), error.get("message"))
    return _encode("error", {"type": "error", **problem.as_json()})


def _shares(tokens: Mapping[str, Any] | None, count: int) -> Iterator[dict[str, Any]]:
    """The `usage` of each picture: what was read counts for the first, what was drawn for each."""
    for index in range(count):
        yield {} if tokens is None else {"usage": _share(tokens, count, is_first=index == 0)}


def _share(tokens: Mapping[str, Any], count: int, *, is_first: bool) -> dict[str, Any]:
    read = tokens["input_tokens"] if is_first else 0
    drawn, left = divmod(tokens["output_tokens"], count)
    drawn += left if is_first else 0
    details = tokens["input_tokens_details"]
    return {
        "total_tokens": read + drawn,
        "input_tokens": read,
        "output_tokens": drawn,
        "input_tokens_details": dict(details) if is_first else dict.fromkeys(details, 0),
        "output_tokens_details": {"image_tokens": drawn, "text_tokens": 0},
    }


def _base64(file: bytes) -> orjson.Fragment:
    # As a fragment, megabytes of letters are not searched for quotes.
    return orjson.Fragment(b'"' + binascii.b2a_base64(file, newline=False) + b'"')


def _encode(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
