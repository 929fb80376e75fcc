"""Dispatch parsed calls to the service, without sockets, faults or response headers."""

from collections.abc import Awaitable, Callable
from typing import Any

from lemon_async.emulator.clock import Clock
from lemon_async.emulator.http import openapi
from lemon_async.emulator.http.faults import RequestFacts
from lemon_async.emulator.http.replies import part_of
from lemon_async.emulator.http.routes import methods_of
from lemon_async.emulator.service import model_list
from lemon_async.emulator.service.edits import DEFAULT_EDIT_MODEL
from lemon_async.emulator.service.files import Files
from lemon_async.emulator.service.image_jobs import ImageJobs
from lemon_async.emulator.service.job_spec import DEFAULT_MODEL, JobSpec
from lemon_async.emulator.service.messages import Call, Reply, json_reply
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service_errors import ServiceError, excerpt

_DEFAULT_MODELS = {"submit": DEFAULT_MODEL, "edit": DEFAULT_EDIT_MODEL}


class Endpoints:
    """The endpoints of the API, by name."""

    def __init__(self, store: Store, clock: Clock, jobs: ImageJobs, files: Files) -> None:
        self._store = store
        self._clock = clock
        self.jobs: ImageJobs = jobs
        self._table: dict[str, Callable[[Call], Awaitable[Reply]]] = {
            "submit": jobs.create,
            "edit": jobs.create,
            "vary": jobs.create,
            "poll": jobs.poll,
            "cancel": jobs.cancel,
            "download": self.download,
            "create_file": files.create,
            "list_files": files.list,
            "show_file": files.show,
            "read_file": files.read,
            "delete_file": files.delete,
            "list_models": self.list_models,
            "show_model": self.show_model,
            "describe": self.describe,
            "unknown": self.unknown,
        }

    async def answer(self, call: Call) -> Reply:
        """Return the reply to a call.

        Raises:
            ServiceError: The service refuses the call.
        """
        return await self._table[call.endpoint](call)

    def facts(self, call: Call) -> RequestFacts:
        """Return what faults can match about a call."""
        spec = self._spec_of(call)
        if spec is not None:
            return RequestFacts(call.route, spec.model, spec.picture.prompt, call.key)
        if call.is_paid:
            model, prompt = call.body.get("model", _DEFAULT_MODELS[call.route]), call.body.get("prompt")
            return RequestFacts(call.route, _scalar(model), prompt and _scalar(prompt), call.key)
        model = call.args.get("id") if call.route == "models" else None
        return RequestFacts(call.route, model, None, call.key)

    def _spec_of(self, call: Call) -> JobSpec | None:
        """Return the job of a task or of a result link."""
        if call.route == "cdn":
            link = self._store.find_link(call.args["token"])
            return link.task.spec if link else None
        task = self._store.find(call.args.get("id", ""))
        return task.spec if task else None

    async def download(self, call: Call) -> Reply:
        """Return the file behind a result link, or a part of it."""
        return part_of(await self.jobs.download(call), call.headers)

    # "List models"

    async def list_models(self, call: Call) -> Reply:
        """Return the list of models."""
        return json_reply(model_list.list_models(call.query, self._clock.unix()))

    async def show_model(self, call: Call) -> Reply:
        """Return one model."""
        return json_reply(model_list.show_model(call.args["id"], self._clock.unix()))

    # About itself

    async def describe(self, call: Call) -> Reply:
        """Return the OpenAPI document."""
        return json_reply(openapi.document(call.origin))

    async def unknown(self, call: Call) -> Reply:
        """Refuse a call that matches no route: 405 if another method would match, otherwise 404."""
        line = excerpt(f"{call.args['method']} {call.args['path']}")
        methods = methods_of(call.args["path"])
        if methods:
            raise ServiceError(405, message=f"Invalid method: {line}", headers={"Allow": ", ".join(methods)})
        raise ServiceError(404, message=f"Unknown route: {line}")


def _scalar(value: Any) -> str | None:
    """Return a value as text; None for lists and objects, which may be deeply nested and match no fault."""
    return None if isinstance(value, list | dict) else str(value)
