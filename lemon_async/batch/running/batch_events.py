"""Emit what happens to a batch and its rows; imported only if the session has functions for events."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import attrs

from lemon_async.batch.states import State
from lemon_async.events import BatchClosed, BatchOpened, RowChanged

__all__ = ["BatchEvents"]


@attrs.frozen
class BatchEvents:
    """The events of one batch.

    Args:
        emit: Makes and passes on an event.
        journal: The name of the journal, without credentials.
    """

    _emit: Callable[..., None]
    _journal: str
    _late: dict[str, State] = attrs.field(factory=dict[str, State], init=False)  # recorded after the wait was cancelled

    def opened(self, counts: Mapping[State, int]) -> None:
        """Emit that the batch was entered."""
        self._emit(BatchOpened, journal=self._journal, counts=_by_name(counts))

    def changed(self, key: str, before: State, after: State, error: str | None) -> None:
        """Emit the state of a row, if it is new."""
        before = self._late.pop(key, before)
        if before is not after:
            self._emit(RowChanged, journal=self._journal, key=key, before=before.value, after=after.value, error=error)

    async def recorded(
        self, recording: Awaitable[State | None], key: str, before: State, error: str | None
    ) -> State | None:
        """Wait until a change is recorded; if that is cancelled, emit the change once it is."""
        recorded = asyncio.ensure_future(recording)
        try:
            return await asyncio.shield(recorded)
        except asyncio.CancelledError:
            recorded.add_done_callback(partial(self._recorded_late, key, before, error))
            raise

    def _recorded_late(
        self, key: str, before: State, error: str | None, recorded: "asyncio.Future[State | None]"
    ) -> None:
        if not recorded.cancelled() and recorded.exception() is None and (after := recorded.result()) is not None:
            self.changed(key, before, after, error)
            self._late[key] = after

    def closed(self, counts: Mapping[State, int]) -> None:
        """Emit that the batch was left."""
        self._emit(BatchClosed, journal=self._journal, counts=_by_name(counts))


def _by_name(counts: Mapping[State, int]) -> dict[str, int]:
    return {state.value: count for state, count in counts.items()}
