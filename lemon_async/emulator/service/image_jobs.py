"""Paid work: accepting it, answering with images or with a task, and showing what became of it."""

import asyncio
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any

import orjson

from lemon_async.emulator.actions import Answer, Fail, Result, Stuck
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.picture import EXTENSIONS, Picture, SourceImage
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.edits import (
    FileRef,
    UnresolvedEdit,
    UploadRef,
    read_edit,
    read_variation,
    resolve_edit,
)
from lemon_async.emulator.service.files import Files
from lemon_async.emulator.service.job_spec import MAX_FETCHED_BYTES, JobSpec, parse_job
from lemon_async.emulator.service.messages import Call, Reply, json_reply
from lemon_async.emulator.service.pricing import usage
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service.streaming import ImageStream, Kind
from lemon_async.emulator.service.tasks import Task, override
from lemon_async.emulator.service_errors import ServiceError

COST_HEADER = "x-lemondata-cost-usd"
ESTIMATE_HEADER = "x-lemondata-estimated-cost-usd"
TRANSACTION_HEADER = "x-lemondata-billing-transaction-id"

# Takes a URL, the field that holds it and the most bytes to read; the file it returns stands at its end.
Fetch = Callable[[str, str, int], Awaitable[IO[bytes]]]


class ImageJobs:
    """Generations, edits and variations from the sale to the download."""

    def __init__(self, store: Store, renderer: Renderer, clock: Clock, files: Files, fetch: Fetch) -> None:
        self._store = store
        self._renderer = renderer
        self._clock = clock
        self._files = files
        self._fetch = fetch

    # "Create image", "Edit image" and variations

    async def accept(self, call: Call) -> Task:
        """Accept a paid request; from here on it is paid for.

        Raises:
            ServiceError: 400, 402, 404 or 413; nothing was sold.
        """
        spec = await self._read(call)
        return self._store.accept(
            spec,
            key=call.key,
            now=self._clock.now(),
            created=int(self._clock.unix()),
            script=call.script,
        )

    async def _read(self, call: Call) -> JobSpec:
        """Validate a paid request and load its source pictures.

        Raises:
            ServiceError: 400, 404 or 413.
        """
        if call.endpoint == "submit":
            return parse_job(call.body)
        edit = read_variation(call) if call.endpoint == "vary" else read_edit(call)
        sources = await self._sources(edit, call.key)
        mask = None if edit.mask is None else await self._files.store(edit.mask.upload.file, edit.mask.param)
        return resolve_edit(edit, sources, mask)

    async def _sources(self, edit: UnresolvedEdit, key: str) -> list[SourceImage]:
        sources: list[SourceImage] = []
        left_bytes = MAX_FETCHED_BYTES
        for origin in edit.source_refs:
            if isinstance(origin, UploadRef):
                source = await self._files.store(origin.upload.file, origin.param)
            elif isinstance(origin, FileRef):
                source = self._files.source(origin.file_id, key=key, model=edit.spec.model, param=origin.param)
            else:
                with await self._fetch(origin.url, origin.param, left_bytes) as file:
                    left_bytes -= file.tell()
                    source = await self._files.store(file, origin.param)
            sources.append(source)
        return sources

    async def create(self, call: Call) -> Reply:
        """Sell, then answer with a task at once or with images in time."""
        task = await self.accept(call)
        headers = {ESTIMATE_HEADER: str(task.reserved.amount_usd)}
        if task.spec.is_stream:
            return self._show(task, call).reply(headers)
        if not task.spec.is_task:
            return await self._inline(task, call.origin)
        return json_reply(task.submit_answer(), headers=headers)

    def _show(self, task: Task, call: Call) -> ImageStream:
        pictures = [self.picture(task.spec, index) for index in range(task.spec.n)]
        kind: Kind = "image_generation" if call.route == "submit" else "image_edit"
        return ImageStream(task, kind, pictures, self._renderer, self._clock)

    async def _inline(self, task: Task, origin: str) -> Reply:
        """Work as long as the job takes; leaving early does not undo the sale."""
        if task.find(Stuck):
            await asyncio.get_running_loop().create_future()
        wait_s = (task.done_at - self._clock.now()) / self._clock.speed
        await asyncio.sleep(max(0.0, wait_s))
        fail = task.find(Fail)
        if fail is not None:
            raise _inline_failure(fail)
        data = task.images(self._urls(task, origin))
        if task.spec.is_base64 and not task.find(Result):
            data = await self._with_base64(task.spec, data)
        tokens = usage(task.spec)
        answer = {"created": task.created, "data": data} | ({"usage": tokens} if tokens else {})
        headers = {COST_HEADER: str(task.cost_usd)}
        return json_reply(override(answer, task.find(Answer)), headers=headers)

    async def _with_base64(self, spec: JobSpec, data: list[Any]) -> list[Any]:
        """Put the files in place of their links."""
        files = []
        for index, image in enumerate(data):
            file = await self._draw(self.picture(spec, index))
            text = binascii.b2a_base64(file, newline=False)
            # A fragment goes into the answer as it is: megabytes need no search for quotes.
            fragment = orjson.Fragment(b'"' + text + b'"')
            rest = {name: value for name, value in image.items() if name != "url"}
            files.append({"b64_json": fragment, **rest})
        return files

    # "Get image status"

    async def poll(self, call: Call) -> Reply:
        """Show a task to its owner."""
        now = self._clock.now()
        task = self._store.poll(call.args["id"], key=call.key, now=now)
        return self._snapshot(task, call.origin, now)

    async def cancel(self, call: Call) -> Reply:
        """Cancel a task, if this service can."""
        now = self._clock.now()
        task = self._store.cancel(call.args["id"], key=call.key, now=now)
        return self._snapshot(task, call.origin, now)

    def _snapshot(self, task: Task, origin: str, now: float) -> Reply:
        is_completed = task.status(now) == "completed"
        answer = task.poll_answer(now, self._urls(task, origin) if is_completed else [])
        headers = {}
        if is_completed:
            headers[COST_HEADER] = str(task.cost_usd)
            headers[TRANSACTION_HEADER] = answer["billing_transaction_id"]
        return json_reply(answer, headers=headers)

    # Files

    async def download(self, call: Call) -> Reply:
        """Return the file behind a result link."""
        link = self._store.open_link(call.args["token"], self._clock.now())
        picture = self.picture(link.task.spec, link.index)
        return Reply(200, await self._draw(picture), picture.content_type)

    async def _draw(self, picture: Picture) -> bytes:
        try:
            return await self._renderer.draw(picture)
        except FileNotFoundError as error:
            raise ServiceError(410, message="The sources of this edit went when the emulator was closed.") from error

    def _urls(self, task: Task, origin: str) -> list[str]:
        extension = EXTENSIONS[task.spec.format]
        links = self._store.links(task, self._clock.now())
        return [f"{origin}/cdn/{link.token}.{extension}" for link in links]

    def picture(self, spec: JobSpec, index: int) -> Picture:
        """One of the pictures that were ordered."""
        return Picture(
            prompt=spec.prompt,
            width=spec.size[0],
            height=spec.size[1],
            index=index,
            seed=self._store.seed,
            format=spec.format,
            compression=spec.compression,
            is_transparent=spec.is_transparent,
            sources=spec.sources,
            mask=spec.mask,
        )


def _inline_failure(fail: Fail) -> ServiceError:
    """A failed inline job is an answer 502; an error object keeps its code."""
    if isinstance(fail.error, Mapping):
        return ServiceError(502, fail.error.get("code"), fail.error.get("message"))
    return ServiceError(502, message=fail.error)
