"""An event loop in virtual time: it never sleeps, its clock jumps to the next timer."""

import asyncio
import selectors


class _Jump(selectors.DefaultSelector):
    """A selector that lets time pass instead of waiting."""

    def __init__(self, io_s):
        super().__init__()
        self.now = 0.0
        self._io_s = io_s

    def select(self, timeout=None):
        found = super().select(self._io_s if timeout is None else min(timeout, self._io_s))
        if not found and timeout is None:
            raise RuntimeError("nothing will ever happen: no timer is set")
        if not found:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for code that does no I/O, or only within this loop, which takes at most `io_s` real seconds."""

    def __init__(self, io_s=0.0):
        self._jump = _Jump(io_s)
        super().__init__(self._jump)

    def time(self):
        """Return the virtual time in seconds; it begins with 0."""
        return self._jump.now


def run_virtually(coroutine, *, io_s=0.0):
    """Return the result of a coroutine that runs in virtual time; see `VirtualLoop`."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(io_s)) as runner:
        return runner.run(coroutine)
