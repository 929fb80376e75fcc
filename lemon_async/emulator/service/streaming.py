"""Stream previews and pictures of a job as server-sent events, each when it is due.

The events are those of OpenAI's image streaming. Previews show the first picture, a little sharper each time, and are
spread evenly over the job; all its pictures follow when it is done. Their `usage` adds up to that of the job: the
first picture carries the input tokens, each picture its output tokens. A failed job ends with an `error` event,
because its status 200 has already been sent.
"""

import binascii
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

import orjson
from attrs import frozen

from lemon_async.emulator.actions import Answer, Result
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.messages import Reply
from lemon_async.emulator.service.pricing import usage
from lemon_async.emulator.service.tasks import Task, override
from lemon_async.emulator.service_errors import ServiceError

STREAM_TYPE = "text/event-stream"

# Along each edge, the first preview has one pixel for this many of the picture; each further one is twice as sharp.
_COARSENESS = 32


@frozen
class ImageStream:
    """The streamed response of an accepted job; `pictures` are what it draws, one per image."""

    task: Task
    pictures: Sequence[Picture]
    renderer: Renderer
    clock: Clock

    def reply(self, headers: Mapping[str, str]) -> Reply:
        """Return the response; its head is sent before the first event is due."""
        headers = {"Cache-Control": "no-cache", **headers}
        return Reply(200, content_type=STREAM_TYPE, headers=headers, chunks=self.events())

    async def events(self) -> AsyncGenerator[bytes]:
        """Yield each event when it is due."""
        for index, due_at in enumerate(self.preview_times()):
            await self.clock.sleep_until(due_at)
            yield await self._preview(index)
        try:
            await self.task.wait(self.clock)
        except ServiceError as error:
            yield _encode("error", {"type": "error", **error.as_json()})
            return
        async for event in self._completed():
            yield event

    def preview_times(self) -> Iterator[float]:
        """Return when previews are due: they divide the time of the job evenly."""
        begin, end = self.task.born_at, self.task.done_at
        parts = self.task.spec.previews + 1
        return (begin + (end - begin) * part / parts for part in range(1, parts))

    async def _preview(self, index: int) -> bytes:
        file = await self.renderer.preview(self.pictures[0], coarseness=_COARSENESS >> index)
        return self._event("partial_image", {"b64_json": base64_json(file), "partial_image_index": index})

    async def _completed(self) -> AsyncGenerator[bytes]:
        """Yield one event for each picture, or for each item of a scripted result."""
        result = self.task.find(Result)
        if result is not None:
            for item in result.data:
                yield self._event("completed", item) if isinstance(item, Mapping) else _encode("completed", item)
            return
        tokens = usage(self.task.spec)
        for index, picture in enumerate(self.pictures):
            file = await self.renderer.draw(picture)
            share = {} if tokens is None else {"usage": _share(tokens, len(self.pictures), is_first=index == 0)}
            yield self._event("completed", {"b64_json": base64_json(file), **share})

    def _event(self, step: str, fields: Mapping[str, Any]) -> bytes:
        spec = self.task.spec
        picture = spec.picture
        name = f"{'image_generation' if spec.operation == 'generate' else 'image_edit'}.{step}"
        event = {
            "type": name,
            "created_at": int(self.clock.unix()),
            "size": f"{picture.width}x{picture.height}",
            "quality": spec.quality,
            "background": "transparent" if picture.is_transparent else "opaque",
            "output_format": picture.format,
            **fields,
        }
        return _encode(name, override(event, self.task.find(Answer) if step == "completed" else None))


def _share(tokens: Mapping[str, Any], count: int, *, is_first: bool) -> dict[str, Any]:
    """Return the `usage` of one of `count` pictures."""
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


def base64_json(file: bytes) -> orjson.Fragment:
    """Return a file as a JSON string; as a fragment, megabytes are not searched for quotes."""
    return orjson.Fragment(b'"' + binascii.b2a_base64(file, newline=False) + b'"')


def _encode(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
