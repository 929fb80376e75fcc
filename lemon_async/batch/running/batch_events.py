"""Emit what happens to a batch and its rows; imported only if the session has functions for events."""

from collections.abc import Callable, Mapping

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

    def opened(self, counts: Mapping[State, int]) -> None:
        """Emit that the batch was entered."""
        self._emit(BatchOpened, journal=self._journal, counts=_by_name(counts))

    def changed(self, key: str, before: State, after: State, error: str | None) -> None:
        """Emit a new state of a row."""
        self._emit(RowChanged, journal=self._journal, key=key, before=before.value, after=after.value, error=error)

    def closed(self, counts: Mapping[State, int]) -> None:
        """Emit that the batch was left."""
        self._emit(BatchClosed, journal=self._journal, counts=_by_name(counts))


def _by_name(counts: Mapping[State, int]) -> dict[str, int]:
    return {state.value: count for state, count in counts.items()}
