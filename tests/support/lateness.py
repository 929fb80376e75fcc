"""How late the timers of an event loop are, because the machine is busy."""

import asyncio
from contextlib import asynccontextmanager, suppress

EVERY_S = 0.01


@asynccontextmanager
async def lateness():
    """Give the seconds by which timers were late so far, one entry for each moment at which that was looked at."""
    late_s = [0.0]

    async def look():
        loop = asyncio.get_running_loop()
        while True:
            due_at = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            late_s.append(loop.time() - due_at)

    looking = asyncio.create_task(look())
    try:
        yield late_s
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
