"""The paid endpoints: accept a job, respond inline, with a task or with a stream, and serve its results."""

from collections.abc import Awaitable, Callable
from typing import IO, Any

from attrs import evolve

from lemon_async.emulator.actions import Answer, Result
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.picture import EXTENSIONS, Picture, SourceImage
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.edits import UnresolvedEdit, parse_edit, parse_variation, resolve_edit
from lemon_async.emulator.service.files import Files
from lemon_async.emulator.service.job_spec import MAX_FETCHED_BYTES, JobSpec, parse_job
from lemon_async.emulator.service.messages import Call, Reply, json_reply
from lemon_async.emulator.service.pricing import usage
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service.streaming import ImageStream, base64_json
from lemon_async.emulator.service.tasks import Task, override
from lemon_async.emulator.service_errors import ServiceError

COST_HEADER = "x-lemondata-cost-usd"
ESTIMATE_HEADER = "x-lemondata-estimated-cost-usd"
TRANSACTION_HEADER = "x-lemondata-billing-transaction-id"

# Takes a URL, the field that holds it and the most bytes to read; the position of the returned file is its end.
Fetch = Callable[[str, str, int], Awaitable[IO[bytes]]]


class ImageJobs:
    """Generations, edits and variations, from the request to the download."""

    def __init__(self, store: Store, renderer: Renderer, clock: Clock, files: Files, fetch: Fetch) -> None:
        self._store = store
        self._renderer = renderer
        self._clock = clock
        self._files = files
        self._fetch = fetch

    # "Create image", "Edit image" and variations

    async def accept(self, call: Call) -> Task:
        """Accept a paid request and reserve its cost.

        Raises:
            ServiceError: 400, 402, 404 or 413; nothing is reserved.
        """
        spec = await self._parse(call)
        return self._store.accept(
            spec,
            key=call.key,
            now=self._clock.now(),
            created=int(self._clock.unix()),
            script=call.script,
        )

    async def create(self, call: Call) -> Reply:
        """Accept a paid request; respond with a task now, with images when they are done, or with a stream."""
        task = await self.accept(call)
        headers = {ESTIMATE_HEADER: str(task.reserved.amount_usd)}
        if task.spec.is_stream:
            pictures = [self._picture(task.spec, index) for index in range(task.spec.n)]
            return ImageStream(task, pictures, self._renderer, self._clock).reply(headers)
        if not task.spec.is_task:
            return await self._inline(task, call.origin)
        return json_reply(task.submit_response(), headers=headers)

    async def _parse(self, call: Call) -> JobSpec:
        """Validate a paid request and load its sources."""
        if call.endpoint == "submit":
            return parse_job(call.body)
        edit = parse_variation(call) if call.endpoint == "vary" else parse_edit(call)
        sources = await self._load_sources(edit, call.key)
        mask = None if edit.mask is None else await self._files.store(edit.mask.file, "mask")
        return resolve_edit(edit, sources, mask)

    async def _load_sources(self, edit: UnresolvedEdit, key: str) -> list[SourceImage]:
        sources: list[SourceImage] = []
        left_bytes = MAX_FETCHED_BYTES
        for ref in edit.source_refs:
            if ref.upload is not None:
                source = await self._files.store(ref.upload.file, ref.param)
            elif ref.url is not None:
                with await self._fetch(ref.url, ref.param, left_bytes) as file:
                    left_bytes -= file.tell()
                    source = await self._files.store(file, ref.param)
            else:
                source = self._files.find_source(ref.file_id, key=key, model=edit.spec.model, param=ref.param)
            sources.append(source)
        return sources

    async def _inline(self, task: Task, origin: str) -> Reply:
        """Respond when the job is done; a client that disconnects early is still billed."""
        await task.wait(self._clock)
        data = task.images(self._urls(task, origin))
        if task.spec.is_base64 and not task.find(Result):
            data = [await self._with_base64(task.spec, index, image) for index, image in enumerate(data)]
        tokens = usage(task.spec)
        response = {"created": task.created, "data": data} | ({"usage": tokens} if tokens else {})
        headers = {COST_HEADER: str(task.cost_usd)}
        return json_reply(override(response, task.find(Answer)), headers=headers)

    async def _with_base64(self, spec: JobSpec, index: int, image: dict[str, Any]) -> dict[str, Any]:
        """Replace the link of an image by its file."""
        file = await self._draw(self._picture(spec, index))
        rest = {name: value for name, value in image.items() if name != "url"}
        return {"b64_json": base64_json(file), **rest}

    # "Get image status"

    async def poll(self, call: Call) -> Reply:
        """Return the state of a task to its owner."""
        now = self._clock.now()
        return self._snapshot(self._store.poll(call.args["id"], key=call.key, now=now), call.origin, now)

    async def cancel(self, call: Call) -> Reply:
        """Cancel a task, if the service supports it."""
        now = self._clock.now()
        return self._snapshot(self._store.cancel(call.args["id"], key=call.key, now=now), call.origin, now)

    def _snapshot(self, task: Task, origin: str, now: float) -> Reply:
        is_completed = task.status(now) == "completed"
        response = task.poll_response(now, self._urls(task, origin) if is_completed else [])
        headers = {}
        if is_completed:
            headers[COST_HEADER] = str(task.cost_usd)
            headers[TRANSACTION_HEADER] = response["billing_transaction_id"]
        return json_reply(response, headers=headers)

    # Results

    async def download(self, call: Call) -> Reply:
        """Return the file behind a result link."""
        link = self._store.resolve_link(call.args["token"], self._clock.now())
        picture = self._picture(link.task.spec, link.index)
        return Reply(200, await self._draw(picture), picture.content_type)

    async def _draw(self, picture: Picture) -> bytes:
        try:
            return await self._renderer.draw(picture)
        except FileNotFoundError as error:
            message = "The sources of this edit were deleted when the emulator was closed."
            raise ServiceError(410, message=message) from error

    def _urls(self, task: Task, origin: str) -> list[str]:
        extension = EXTENSIONS[task.spec.picture.format]
        links = self._store.links(task, self._clock.now())
        return [f"{origin}/cdn/{link.token}.{extension}" for link in links]

    def _picture(self, spec: JobSpec, index: int) -> Picture:
        """Return one of the pictures of a job."""
        return evolve(spec.picture, index=index, seed=self._store.seed)
