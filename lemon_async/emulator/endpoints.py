"""The endpoints: a parsed call goes in, a reply comes out. No sockets, no faults, no headers."""

import asyncio
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from attrs import define, field, frozen

from lemon_async.emulator import catalogue
from lemon_async.emulator.actions import Answer, Fail, Result, Stuck, TaskAction
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.faults import Facts
from lemon_async.emulator.picture import EXTENSIONS, Picture
from lemon_async.emulator.pricing import usage
from lemon_async.emulator.problems import Problem
from lemon_async.emulator.replies import Reply, json_reply
from lemon_async.emulator.rules import DEFAULT_MODEL, Order, read_order
from lemon_async.emulator.store import Store
from lemon_async.emulator.studio import Studio
from lemon_async.emulator.tasks import Task, override

COST_HEADER = "x-lemondata-cost-usd"
ESTIMATE_HEADER = "x-lemondata-estimated-cost-usd"
TRANSACTION_HEADER = "x-lemondata-billing-transaction-id"


@define
class Call:
    """A request as the endpoints see it.

    `origin` is where the client reached us, and where it will find the files; `script` is what a
    fault has in mind for the task.
    """

    route: str
    endpoint: str
    args: Mapping[str, str] = field(factory=dict)
    query: Mapping[str, str] = field(factory=dict)
    key: str = ""
    origin: str = ""
    body: Mapping[str, Any] = field(factory=dict)
    script: tuple[TaskAction, ...] = ()


@frozen
class _Path:
    method: str
    pattern: re.Pattern[str]
    route: str
    endpoint: str


def _path(method: str, pattern: str, route: str, endpoint: str) -> _Path:
    return _Path(method, re.compile(pattern), route, endpoint)


_PATHS = (
    _path("POST", r"/v1/images/generations", "submit", "submit"),
    # Three addresses, one answer: see "Get image status".
    _path("GET", r"/v1/(?:tasks|images/generations|images)/(?P<id>[^/]+)", "poll", "poll"),
    _path("DELETE", r"/v1/tasks/(?P<id>[^/]+)", "cancel", "cancel"),
    _path("GET", r"/v1/models", "models", "list_models"),
    _path("GET", r"/v1/models/(?P<id>[^/]+)", "models", "show_model"),
    _path("GET", r"/cdn/(?P<token>[0-9a-f]+)\.(?P<ext>[a-z]+)", "cdn", "download"),
)


def find_call(method: str, path: str) -> Call:
    """The endpoint of a request line; route and endpoint are `unknown` when there is none."""
    for known in _PATHS:
        match = known.pattern.fullmatch(path) if known.method == method else None
        if match:
            return Call(known.route, known.endpoint, match.groupdict())
    return Call("unknown", "unknown", {"method": method, "path": path})


class Endpoints:
    """What the service does, one method per endpoint."""

    def __init__(self, store: Store, studio: Studio, clock: Clock, seed: int) -> None:
        self._store = store
        self._studio = studio
        self._clock = clock
        self._seed = seed
        self._table: dict[str, Callable[[Call], Awaitable[Reply]]] = {
            "submit": self.submit,
            "poll": self.poll,
            "cancel": self.cancel,
            "list_models": self.list_models,
            "show_model": self.show_model,
            "download": self.download,
            "unknown": self.unknown,
        }

    async def answer(self, call: Call) -> Reply:
        """Answer a call.

        Raises:
            Problem: The service says no.
        """
        return await self._table[call.endpoint](call)

    def facts(self, call: Call) -> Facts:
        """What a fault may match about a call."""
        order = self._order_of(call)
        if order is not None:
            return Facts(call.route, order.model, order.prompt, call.key)
        if call.route == "submit":
            model, prompt = call.body.get("model", DEFAULT_MODEL), call.body.get("prompt")
            return Facts(call.route, str(model), str(prompt), call.key)
        model = call.args.get("id") if call.route == "models" else None
        return Facts(call.route, model, None, call.key)

    def _order_of(self, call: Call) -> Order | None:
        """The order behind a task or a link."""
        if call.route == "cdn":
            link = self._store.find_link(call.args["token"])
            return link.task.order if link else None
        task = self._store.find(call.args.get("id", ""))
        return task.order if task else None

    # "Create image"

    def sell(self, call: Call) -> Task:
        """Accept a generation request; from here on it is paid for.

        Raises:
            Problem: 400 or 402; nothing was sold.
        """
        return self._store.sell(
            read_order(call.body),
            key=call.key,
            now=self._clock.now(),
            created=int(self._clock.unix()),
            script=call.script,
        )

    async def submit(self, call: Call) -> Reply:
        """Sell, then answer with a task at once or with images in time."""
        task = self.sell(call)
        if not task.order.is_task:
            return await self._inline(task, call.origin)
        answer = task.submit_answer()
        return json_reply(answer, headers={ESTIMATE_HEADER: str(task.reserved.amount_usd)})

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
        if task.order.is_base64 and not task.find(Result):
            data = await self._with_base64(task.order, data)
        tokens = usage(task.order)
        answer = {"created": task.created, "data": data} | ({"usage": tokens} if tokens else {})
        headers = {COST_HEADER: str(task.cost_usd)}
        return json_reply(override(answer, task.find(Answer)), headers=headers)

    async def _with_base64(self, order: Order, data: list[Any]) -> list[Any]:
        """Put the files in place of their links."""
        files = []
        for index, image in enumerate(data):
            file = await self._studio.draw(self._picture(order, index))
            text = binascii.b2a_base64(file, newline=False)
            # A fragment goes into the answer as it is: megabytes need no search for quotes.
            fragment = orjson.Fragment(b'"' + text + b'"')
            files.append({"b64_json": fragment, "revised_prompt": image["revised_prompt"]})
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

    # "List models"

    async def list_models(self, call: Call) -> Reply:
        """The catalogue."""
        return json_reply(catalogue.list_models(call.query, self._clock.unix()))

    async def show_model(self, call: Call) -> Reply:
        """One model."""
        return json_reply(catalogue.show_model(call.args["id"], self._clock.unix()))

    # Files

    async def download(self, call: Call) -> Reply:
        """The file behind a result link."""
        link = self._store.open_link(call.args["token"], self._clock.now())
        picture = self._picture(link.task.order, link.index)
        return Reply(200, await self._studio.draw(picture), picture.content_type)

    async def unknown(self, call: Call) -> Reply:
        """Everything else."""
        line = f"{call.args['method']} {call.args['path']}"
        raise Problem(404, message=f"Unknown route: {line}")

    def _urls(self, task: Task, origin: str) -> list[str]:
        extension = EXTENSIONS[task.order.format]
        links = self._store.links(task, self._clock.now())
        return [f"{origin}/cdn/{link.token}.{extension}" for link in links]

    def _picture(self, order: Order, index: int) -> Picture:
        return Picture(
            prompt=order.prompt,
            width=order.size[0],
            height=order.size[1],
            index=index,
            seed=self._seed,
            format=order.format,
            compression=order.compression,
            is_transparent=order.is_transparent,
        )


def _inline_failure(fail: Fail) -> Problem:
    """A failed inline job is an answer 502; an error object keeps its code."""
    if isinstance(fail.error, Mapping):
        return Problem(502, fail.error.get("code"), fail.error.get("message"))
    return Problem(502, message=fail.error)
