"""The life of one accepted job: pending, processing, completed or failed, computed from the clock."""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define, field

from lemon_async.emulator.actions import Answer, Fail, LateVisible, Result, Script, Stuck, TaskAction, Vanish
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.service.job_spec import JobSpec
from lemon_async.emulator.service.ledger import LedgerEntry
from lemon_async.emulator.service.pricing import actual_usd, usage
from lemon_async.emulator.service_errors import ServiceError

TERMINAL = ("completed", "failed")

# The share of its time in which a job is pending.
_QUEUED_SHARE = 0.15

A = TypeVar("A")


@define(eq=False)
class Task:
    """An accepted job. Inline jobs are tasks that cannot be polled."""

    id: str
    key: str
    spec: JobSpec
    created: int
    born_at: float
    done_at: float
    shows_progress: bool
    script: tuple[TaskAction, ...]
    reserved: LedgerEntry
    polls: int = 0
    is_cancelled: bool = False
    is_lost: bool = False
    links: dict[int, str] = field(factory=dict)

    def find(self, kind: type[A]) -> A | None:
        """Return the scripted action of this kind."""
        return next((action for action in self.script if isinstance(action, kind)), None)

    @property
    def poll_url(self) -> str:
        """The path at which the service wants the task to be polled."""
        return self.spec.family.poll_path.format(id=self.id)

    @property
    def cost_usd(self) -> float:
        """The amount billed once the job is completed."""
        return actual_usd(self.spec)

    @property
    def is_visible(self) -> bool:
        """Whether this poll finds the task."""
        vanish, late = self.find(Vanish), self.find(LateVisible)
        is_gone = vanish is not None and self.polls > vanish.after_polls
        is_late = late is not None and self.polls <= late.polls
        return not is_gone and not is_late

    @property
    def queued_until(self) -> float:
        """When it is no longer pending but processing, unless it is scripted otherwise."""
        return self.born_at + _QUEUED_SHARE * (self.done_at - self.born_at)

    def status(self, now: float) -> str:
        """Return the status that a poll at `now` shows.

        The first that applies: cancelled; a scripted list of statuses; stuck; otherwise the clock decides.
        """
        script = self.find(Script)
        if self.is_cancelled:
            return "failed"
        if script is not None:
            return script.statuses[min(max(self.polls, 1), len(script.statuses)) - 1]
        if now >= self.done_at and self.find(Stuck) is None:
            return "completed" if self.find(Fail) is None else "failed"
        return "pending" if now < self.queued_until else "processing"

    def is_over(self, now: float) -> bool:
        """Whether its status at `now` is final. A script is over when a poll has shown its final status."""
        if self.find(Script) is not None and not self.polls and not self.is_cancelled:
            return False
        return self.status(now) in TERMINAL

    async def wait(self, clock: Clock) -> None:
        """Wait as long as the job takes; a stuck job takes forever.

        Raises:
            ServiceError: 502, the job is scripted to fail; an error object keeps its code.
        """
        await clock.sleep_until(self.done_at)
        if self.find(Stuck):
            await asyncio.get_running_loop().create_future()
        fail = self.find(Fail)
        if fail is not None:
            error = fail.error if isinstance(fail.error, Mapping) else {"message": fail.error}
            raise ServiceError(502, error.get("code"), error.get("message"))

    def _progress(self, now: float) -> dict[str, int]:
        """Return the percentage done, if this task reports it."""
        span = self.done_at - self.born_at
        if not self.shows_progress or span <= 0:
            return {}
        return {"progress": max(0, min(99, int(100 * (now - self.born_at) / span)))}

    # Responses, field by field as on the pages "Create image" and "Get image status"

    def submit_response(self) -> dict[str, Any]:
        """Return the response to the request that created the task."""
        response = {**self._head(), "status": "pending", "data": [self._image("")]}
        return override(response, self.find(Answer))

    def poll_response(self, now: float, urls: list[str]) -> dict[str, Any]:
        """Return the response to a poll; `urls` are the links of its images."""
        status = self.status(now)
        head = {**self._head(), "status": status, "model": self.spec.model}
        if status == "completed":
            return head | self._completed(urls)
        if status == "failed":
            return head | self._failed()
        return head | {"data": [self._image("")]} | self._progress(now)

    def images(self, urls: list[str]) -> list[Any]:
        """Return the `data` of a finished job."""
        result = self.find(Result)
        return [self._image(url) for url in urls] if result is None else list(result.data)

    def _head(self) -> dict[str, Any]:
        return {"created": self.created, "id": self.id, "task_id": self.id, "poll_url": self.poll_url}

    def _image(self, url: str) -> dict[str, str]:
        prompt = self.spec.picture.prompt
        return {"url": url, "revised_prompt": prompt} if prompt else {"url": url}

    def _completed(self, urls: list[str]) -> dict[str, Any]:
        tokens = usage(self.spec)
        return {
            "data": self.images(urls),
            "billing_transaction_id": f"txn_{self.id.removeprefix('ldtask_')}",
            **({"usage": tokens} if tokens else {}),
        }

    def _failed(self) -> dict[str, Any]:
        fail = self.find(Fail) or Fail()
        error = "Task was cancelled" if self.is_cancelled else fail.error
        fields: dict[str, Any] = {"data": []} | ({} if error is None else {"error": error})
        if self.is_cancelled or fail.cancelled:
            fields |= {"cancelled": True, "cancellation_status": "cancelled"}
        return fields


def override(response: dict[str, Any], action: Answer | None) -> dict[str, Any]:
    """Apply a scripted `Answer`: replace its fields, drop those that are None."""
    fields = {} if action is None else action.fields
    return {name: value for name, value in {**response, **fields}.items() if value is not None}
