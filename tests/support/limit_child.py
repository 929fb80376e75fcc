"""Run sessions that share a rate limit, each in a process of its own: `limit_child.py PLAN`.

The plan is a JSON object with the fields of `main`. Everything is imported before the first fork. When the processes
have ended, their number that succeeded is printed.
"""

import asyncio
import json
import os
import sys
import time

from lemon_async import LemonSession, PollPolicy, RetryPolicy
from lemon_async._http.shared_limit import postgres, redis

WARM = (postgres, redis)
QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=120)
PATIENT = RetryPolicy(max_elapsed_s=120)


async def run(key, base_url, rpm, store, pictures):
    """Make some pictures."""
    options = {"requests_per_minute": rpm, "shared_limit": store, "polling": QUICK, "retry": PATIENT}
    async with (
        LemonSession(key, base_url=base_url, **options) as lemon,
        lemon.map(["a cat"] * pictures, model="flux-pro", in_flight=pictures) as outcomes,
    ):
        async for outcome in outcomes:
            if outcome.error:
                raise outcome.error


def fork(wrong_s, service, options):
    """Return the id of a new process, whose clock is wrong by so many seconds."""
    if pid := os.fork():
        return pid
    status, right = 1, time.time
    time.time = lambda: right() + wrong_s
    try:
        asyncio.run(run(**service, **options))
        status = 0
    except BaseException:  # noqa: BLE001 - the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def main(service, clocks, **options):
    """Run one process per clock."""
    pids = [fork(wrong_s, service, options) for wrong_s in clocks]
    succeeded = sum(not os.waitpid(pid, 0)[1] for pid in pids)
    os.write(1, b"%d" % succeeded)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
