"""A journal of a map that remembers what its hooks were called with."""

import asyncio


class MemoryJournal:
    """Calls `on_hook(name, index)` in every hook, which may raise or return an awaitable; then notes the call.

    Requests at positions in `refused` are not to be sent.
    """

    def __init__(self, on_hook=None, refused=()):
        self.refused = refused
        self.events = []
        self.reasons = []
        self.tasks = {}
        self._on_hook = on_hook

    async def _note(self, name, index):
        waiting = self._on_hook(name, index) if self._on_hook else None
        self.events.append((name, index))
        await (waiting or asyncio.sleep(0))

    async def intend(self, index, fingerprint):
        assert len(fingerprint) == 64
        await self._note("intend", index)
        return index not in self.refused

    async def withdraw(self, index, reason):
        self.reasons.append(reason)
        await self._note("withdraw", index)

    async def accept(self, index, task):
        self.tasks[index] = task
        await self._note("accept", index)

    @property
    def names(self):
        """The names of the hooks, in the order of the calls."""
        return [name for name, _ in self.events]

    def open(self):
        """Return the requests whose last call was an intent: a runner that reads this after a crash must doubt them."""
        last = {index: name for name, index in self.events}
        return {index for index, name in last.items() if name == "intend"}


def failing(name, error):
    """Return an `on_hook` that raises in one of the hooks."""

    def on_hook(called, index):
        if called == name:
            raise error

    return on_hook


def waiting(name, event):
    """Return an `on_hook` that waits for an event in one of the hooks."""
    return lambda called, index: event.wait() if called == name else None
