"""One sold job and its life: pending, processing, completed or failed, all computed from the clock."""

from typing import Any, TypeVar

from attrs import define, field

from lemon_async.emulator.actions import (
    Answer,
    Fail,
    LateVisible,
    Result,
    Script,
    Stuck,
    TaskAction,
    Vanish,
)
from lemon_async.emulator.service.job_spec import JobSpec
from lemon_async.emulator.service.ledger import LedgerEntry
from lemon_async.emulator.service.pricing import actual_usd, usage

TERMINAL = ("completed", "failed")

# The share of its time that a job waits in the queue before somebody works on it.
_QUEUED_SHARE = 0.15

A = TypeVar("A")


@define(eq=False)
class Task:
    """A job that was sold. Inline jobs are tasks, too, only that nobody can poll them."""

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
    links: dict[int, str] = field(factory=dict)

    def find(self, kind: type[A]) -> A | None:
        """The scripted action of this kind."""
        return next((action for action in self.script if isinstance(action, kind)), None)

    @property
    def poll_url(self) -> str:
        """Where the service wants it polled."""
        return self.spec.family.poll_path.format(id=self.id)

    @property
    def cost_usd(self) -> float:
        """What it costs once completed."""
        return actual_usd(self.spec)

    @property
    def is_visible(self) -> bool:
        """Whether its owner can see it at this poll."""
        vanish, late = self.find(Vanish), self.find(LateVisible)
        is_gone = vanish is not None and self.polls > vanish.after_polls
        is_late = late is not None and self.polls <= late.polls
        return not is_gone and not is_late

    def status(self, now: float) -> str:
        """The status that a poll at `now` shows.

        In this order: cancelled; a scripted list of statuses; stuck; then the clock decides between
        waiting, working and over.
        """
        script = self.find(Script)
        if self.is_cancelled:
            return "failed"
        if script is not None:
            return script.statuses[min(max(self.polls, 1), len(script.statuses)) - 1]
        if now >= self.done_at and self.find(Stuck) is None:
            return "completed" if self.find(Fail) is None else "failed"
        queued_until = self.born_at + _QUEUED_SHARE * (self.done_at - self.born_at)
        return "pending" if now < queued_until else "processing"

    def is_over(self, now: float) -> bool:
        """Whether its status at `now` is final. A script is over when a poll has shown it."""
        if self.find(Script) is not None and not self.polls and not self.is_cancelled:
            return False
        return self.status(now) in TERMINAL

    def progress(self, now: float) -> int | None:
        """Percent done; None when this task does not say."""
        span = self.done_at - self.born_at
        if not self.shows_progress or span <= 0:
            return None
        return max(0, min(99, int(100 * (now - self.born_at) / span)))

    # Answers, field by field as on the pages "Create image" and "Get image status"

    def submit_answer(self) -> dict[str, Any]:
        """The answer to the request that created it."""
        answer = {**self._head(), "status": "pending", "data": [self._image("")]}
        return override(answer, self.find(Answer))

    def poll_answer(self, now: float, urls: list[str]) -> dict[str, Any]:
        """The answer to a poll; `urls` are the links of its images."""
        status = self.status(now)
        answer = {**self._head(), "status": status, "model": self.spec.model}
        if status == "completed":
            return answer | self._completed(urls)
        if status == "failed":
            return answer | self._failed()
        progress = self.progress(now)
        answer["data"] = [self._image("")]
        return answer if progress is None else answer | {"progress": progress}

    def images(self, urls: list[str]) -> list[Any]:
        """The `data` of a finished job."""
        result = self.find(Result)
        if result is not None:
            return list(result.data)
        return [self._image(url) for url in urls]

    def _head(self) -> dict[str, Any]:
        return {
            "created": self.created,
            "id": self.id,
            "task_id": self.id,
            "poll_url": self.poll_url,
        }

    def _image(self, url: str) -> dict[str, str]:
        prompt = self.spec.prompt
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
        is_cancelled = self.is_cancelled or fail.cancelled
        error = "Task was cancelled" if self.is_cancelled else fail.error
        answer: dict[str, Any] = {"data": []}
        if error is not None:
            answer["error"] = error
        if is_cancelled:
            answer |= {"cancelled": True, "cancellation_status": "cancelled"}
        return answer


def override(answer: dict[str, Any], answer_action: Answer | None) -> dict[str, Any]:
    """Apply a scripted `Answer`: replace its fields, drop those that are None."""
    fields = {} if answer_action is None else answer_action.fields
    return {name: value for name, value in {**answer, **fields}.items() if value is not None}
