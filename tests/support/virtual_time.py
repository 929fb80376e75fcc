"""An event loop in virtual time: it never sleeps, its clock jumps to the next timer."""

import asyncio
import selectors


class _Jump(selectors.DefaultSelector):
    """A selector that lets time pass instead of waiting."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        found = super().select(0)
        if not found and timeout is None:
            raise RuntimeError("nothing will ever happen: no timer is set")
        if not found:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for code that does no I/O."""

    def __init__(self):
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self):
        """Return the virtual time in seconds; it begins with 0."""
        return self._jump.now


def run_virtually(coroutine):
    """Return the result of a coroutine that runs in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
