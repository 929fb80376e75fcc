"""The studio's server side: what its page reads, and the faults that it switches.

Reading settles what is over, as every look into the ledger does, and changes nothing else.
"""

import asyncio
import re
import secrets
from collections.abc import Mapping
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web
from attrs import define, evolve, field

from lemon_async._web.host_header import AllowedHosts
from lemon_async._web.pages import Pages
from lemon_async._web.replies import PageError, file_reply, json_reply, read_json
from lemon_async._web.summaries import Summaries
from lemon_async.emulator.actions import Fail
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.http.endpoints import Endpoints
from lemon_async.emulator.http.faults import Fault
from lemon_async.emulator.http.handler import RequestHandler
from lemon_async.emulator.http.recordings import Recordings
from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.model_families import MODEL_IDS
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.web.fault_json import InvalidFaults, fault_json, parse_fault
from lemon_async.emulator.web.gallery import LOST, OVER, Gallery, JobRecord
from lemon_async.emulator.web.request_log import PAGE, RequestLog, ledger_page

MAX_FAULTS = 1_000

_THUMBNAIL_EDGE = 320
_THUMBNAIL_QUALITY = 80
_USD_DIGITS = 6
_AT_ONCE = 200
# The address of a thumbnail changes with each start, so its content never does.
_FOREVER = "private, max-age=86400, immutable"
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


@define(eq=False, kw_only=True)
class Studio:
    """The page of one emulator."""

    store: Store
    clock: Clock
    renderer: Renderer
    handler: RequestHandler
    endpoints: Endpoints
    hosts: AllowedHosts
    api_key: str = field(repr=False)
    pages: Pages = field(init=False)
    gallery: Gallery = field(init=False)
    requests: RequestLog = field(init=False)
    _run: str = field(factory=lambda: secrets.token_hex(4), init=False)
    _fault_ids: WeakKeyDictionary[Fault, int] = field(factory=WeakKeyDictionary, init=False)
    _next_fault_id: "count[int]" = field(factory=lambda: count(1), init=False)
    _version: int = field(default=0, init=False)
    _seen: tuple[Any, ...] = field(default=(), init=False)

    def __attrs_post_init__(self) -> None:
        self.gallery = Gallery(self.clock)
        recordings = Recordings()
        self.requests = RequestLog(self.handler, recordings, self.endpoints, self.clock)
        self.pages = Pages(
            page="studio.html",
            hosts=self.hosts,
            meta={"api-key": self.api_key},
            summaries=Summaries(read=self.summary),
            endpoints={
                "GET /_page/pictures": self._pictures,
                "GET /_page/thumbs/{id}/{index}": self._thumbnail,
                "GET /_page/files/{id}/{index}": self._file,
                "GET /_page/requests": self._requests,
                "GET /_page/requests/{number}": self._request,
                "GET /_page/ledger": self._ledger,
                "GET /_page/faults": self._faults,
                "POST /_page/faults": self._add_fault,
                "DELETE /_page/faults/{id}": self._remove_fault,
                "DELETE /_page/faults": self._clear_faults,
            },
        )
        self.store.on_change = self.gallery.update
        self.handler.recordings = recordings
        self.handler.pages = self.pages

    # What has changed

    async def summary(self) -> dict[str, Any]:
        """Return counts and sums; its cost does not grow with the number of jobs."""
        version = await self._refresh()
        ledger = self.store.ledger
        balance = self.store.balance_usd
        return {
            "version": version,
            "counts": {state: number for state, number in self.gallery.counts.items() if number},
            "sold": ledger.total("reserve"),
            "held_usd": round(ledger.held_usd, _USD_DIGITS),
            "balance_usd": None if balance is None else round(balance - ledger.held_usd, _USD_DIGITS),
            "requests": self.handler.request_count,
            "faults": len(self.handler.faults),
            "models": sorted({*MODEL_IDS, *self.gallery.models}),
            "speed": self.clock.speed,
        }

    async def _refresh(self) -> int:
        """Bring everything up to date; return a number that differs from the last one if a list has changed."""
        now = self.clock.now()
        # Thousands of jobs may have ended since the last look.
        is_more = True
        while is_more:
            is_more = self.store.settle(now, _AT_ONCE) or self.gallery.refresh(_AT_ONCE)
            await asyncio.sleep(0)
        faults = self.handler.faults
        # Progress is not announced: while jobs are open, the lists change every second.
        second = int(self.clock.real_s()) if self.gallery.open else None
        seen = (
            self.gallery.changes,
            self.handler.request_count,
            self.store.ledger.count,
            second,
            *((self._fault_id(fault), fault.hits) for fault in faults),
        )
        if seen != self._seen:
            self._seen = seen
            self._version += 1
        return self._version

    # Pictures

    async def _pictures(self, request: web.BaseRequest, _args: Mapping[str, str]) -> web.StreamResponse:
        version = await self._refresh()
        state, model, text = (request.query.get(name, "") for name in ("state", "model", "q"))
        folded = text.strip().casefold()

        def keep(record: JobRecord) -> bool:
            is_kept = state in {"", record.state} and model in {"", record.task.spec.model}
            return is_kept and folded in record.folded

        is_filtered = bool(state or model or folded)
        found, total = await self.gallery.find(keep if is_filtered else None, _before(request), PAGE + 1)
        return json_reply(
            {
                "items": [self._item(record) for record in found[:PAGE]],
                "total": total,
                "next": found[PAGE - 1].number if len(found) > PAGE else None,
                "version": version,
            }
        )

    def _item(self, record: JobRecord) -> dict[str, Any]:
        task, now = record.task, self.clock.now()
        picture = task.spec.picture
        return {
            "id": str(record.number),
            "key": task.spec.user,
            "prompt": picture.prompt or None,
            "model": task.spec.model,
            "size": f"{picture.width}x{picture.height}",
            "cost_usd": _cost(record),
            "state": record.state,
            "progress": _progress(record, now),
            "seconds": round(max(0.0, min(now, task.done_at) - task.born_at), 1),
            "created": self.clock.unix_at(task.born_at),
            "error": _error(record),
            "task_id": task.id if task.spec.is_task else None,
            "images": [self._image(record, index) for index in range(record.pictures)],
            "advice": [] if record.is_drawable else ["The files that this edit was made from are no longer kept."],
        }

    def _image(self, record: JobRecord, index: int) -> dict[str, Any]:
        picture = record.task.spec.picture
        place = f"{record.number}/{index}?v={self._run}"
        return {
            "thumb": f"/_page/thumbs/{place}",
            "full": f"/_page/files/{place}",
            "width": picture.width,
            "height": picture.height,
            "revised_prompt": picture.prompt or None,
        }

    async def _thumbnail(self, _request: web.BaseRequest, args: Mapping[str, str]) -> web.StreamResponse:
        picture = thumbnail_of(await self._find_picture(args))
        return file_reply(await self._draw(picture), picture.content_type, _FOREVER)

    async def _file(self, _request: web.BaseRequest, args: Mapping[str, str]) -> web.StreamResponse:
        picture = await self._find_picture(args)
        return file_reply(await self._draw(picture), picture.content_type)

    async def _find_picture(self, args: Mapping[str, str]) -> Picture:
        await self._refresh()
        number, index = _number(args["id"]), _number(args["index"])
        record = self.gallery.jobs.get(number)
        if record is None or index >= record.pictures:
            raise PageError(404, "there is no such picture")
        return record.picture(index, self.store.seed)

    async def _draw(self, picture: Picture) -> bytes:
        try:
            return await self.renderer.draw(picture)
        except FileNotFoundError:
            raise PageError(410, "the files that this edit was made from are deleted") from None

    # Requests and ledger

    async def _requests(self, request: web.BaseRequest, _args: Mapping[str, str]) -> web.StreamResponse:
        route, status = request.query.get("route", ""), request.query.get("status", "").strip()
        return json_reply(await self.requests.page(route=route, status=status, before=_before(request)))

    async def _request(self, request: web.BaseRequest, args: Mapping[str, str]) -> web.StreamResponse:
        found = self.requests.details(_number(args["number"]), f"http://{request.host}")
        if found is None:
            raise PageError(404, "this request is not in the log any more")
        return json_reply(found)

    async def _ledger(self, request: web.BaseRequest, _args: Mapping[str, str]) -> web.StreamResponse:
        await self._refresh()
        kind, model = request.query.get("kind", ""), request.query.get("model", "")
        return json_reply(
            await ledger_page(self.store.ledger, self.clock, kind=kind, model=model, before=_before(request))
        )

    # Faults

    async def _faults(self, _request: web.BaseRequest, _args: Mapping[str, str]) -> web.StreamResponse:
        version = await self._refresh()
        items = [self._fault(fault) for fault in reversed(self.handler.faults)]
        return json_reply({"items": items, "version": version})

    def _fault(self, fault: Fault) -> dict[str, Any]:
        match = fault_json(fault)
        head = {name: match.pop(name) for name in ("route", "actions")}
        return {"id": self._fault_id(fault), **head, "match": match, "hits": fault.hits}

    def _fault_id(self, fault: Fault) -> int:
        if fault not in self._fault_ids:
            self._fault_ids[fault] = next(self._next_fault_id)
        return self._fault_ids[fault]

    async def _add_fault(self, request: web.BaseRequest, _args: Mapping[str, str]) -> web.StreamResponse:
        try:
            fault = parse_fault(await read_json(request))
        except InvalidFaults as error:
            raise PageError(400, str(error)) from None
        if len(self.handler.faults) >= MAX_FAULTS:
            raise PageError(409, f"there are {MAX_FAULTS} faults; remove some first")
        self.handler.faults.append(fault)
        return json_reply(self._fault(fault), 201)

    async def _remove_fault(self, _request: web.BaseRequest, args: Mapping[str, str]) -> web.StreamResponse:
        number = _number(args["id"])
        fault = next((fault for fault in self.handler.faults if self._fault_ids.get(fault) == number), None)
        if fault is None:
            raise PageError(404, "there is no such fault")
        self.handler.faults.remove(fault)
        return json_reply({})

    async def _clear_faults(self, _request: web.BaseRequest, _args: Mapping[str, str]) -> web.StreamResponse:
        self.handler.faults.clear()
        return json_reply({})


def thumbnail_of(picture: Picture) -> Picture:
    """Return a small drawing of a picture, which is faster than a small copy of a large one."""
    scale = min(1.0, _THUMBNAIL_EDGE / max(picture.width, picture.height))
    return evolve(
        picture,
        width=max(1, round(picture.width * scale)),
        height=max(1, round(picture.height * scale)),
        format="png" if picture.is_transparent else "jpeg",
        compression=_THUMBNAIL_QUALITY,
    )


def _cost(record: JobRecord) -> float | None:
    """Return what the job is billed, or what is reserved for it; nothing if it failed."""
    if record.state == "completed":
        return record.cost_usd
    return 0.0 if record.state in OVER else record.task.reserved.amount_usd


def _progress(record: JobRecord, now: float) -> float | None:
    """Return how much of its time has passed; None if it is over, or takes longer than planned."""
    task = record.task
    span = task.done_at - task.born_at
    is_known = record.state in {"pending", "processing"} and task.born_at <= now < task.done_at and span > 0
    return round((now - task.born_at) / span, 3) if is_known else None


def _error(record: JobRecord) -> str | None:
    if record.state == LOST:
        return "lost when the emulator was restarted"
    if record.state != "failed":
        return None
    if record.task.is_cancelled:
        return "cancelled"
    fail = record.task.find(Fail) or Fail()
    error = fail.error.get("message") or fail.error.get("code") if isinstance(fail.error, Mapping) else fail.error
    return str(error or "failed without a reason")


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise PageError(404, "this is no number")
    return int(text)


def _before(request: web.BaseRequest) -> int | None:
    text = request.query.get("before", "")
    if text and not _NUMBER.fullmatch(text):
        raise PageError(400, "before: must be the `next` of a page")
    return int(text) if text else None
