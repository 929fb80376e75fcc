"""Drive a fleet: add the rows of a batch to its journal, and keep worker processes on it until the batch has ended.

The argument is a JSON object with the fields of `fleet.Plan`. Each line of output is a JSON object: the id of a process
that was started, or how one ended. A worker that ends before the batch does is started again, as an engine would. When
this program is killed, its workers are killed, too, as if their machine had failed. Everything is imported before the
first fork; this program has one thread, so that forking is safe.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import threading
import time

from batch_child import say, warm_up
from lemon_async import LemonSession
from lemon_async.errors import BatchPaused

PR_SET_PDEATHSIG = 1
FAILED = 1
PAUSE_S = 0.2
MOST_FAILURES = 50


async def add(plan):
    """Add the rows to the journal."""
    rows = [{"id": name, "prompt": name} for name in plan["rows"]]
    async with session_of(plan) as lemon:
        await lemon.batch(plan["journal"], rows, key="id", **plan["add"]).add()


async def work(plan):
    """Run the batch, together with the other workers."""
    try:
        async with session_of(plan) as lemon, lemon.batch(plan["journal"], **plan["run"]) as batch:
            async for _ in batch:
                pass
    except BatchPaused as paused:
        say({"paused": str(paused)})


def session_of(plan):
    return LemonSession(plan["service"]["key"], base_url=plan["service"]["base_url"], **plan["session"])


def fork(function, plan):
    """Run a coroutine function in a process of its own, which ends with this one; return its id."""
    parent = os.getpid()
    if pid := os.fork():
        say({"started": pid, "as": function.__name__})
        return pid
    status, error = FAILED, None
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            asyncio.run(function(plan))
            status = 0
    except BaseException as failure:  # noqa: BLE001 - the process ends
        error = f"{type(failure).__name__}: {failure}"
    finally:
        say({"failed": error}) if error else None
        sys.stderr.flush()
        os._exit(status)


def wait():
    """Wait for the end of any process; return its id and status."""
    pid, status, usage = os.wait4(-1, 0)
    status = os.waitstatus_to_exitcode(status)
    say({"ended": pid, "status": status, "cpu_s": usage.ru_utime + usage.ru_stime})
    return pid, status


def main():
    plan = json.loads(sys.argv[1])
    failures = 0
    workers = {fork(add, plan): add}
    while workers:
        pid, status = wait()
        function = workers.pop(pid)
        failures += status == FAILED
        if failures > MOST_FAILURES:
            sys.exit("the processes of the fleet fail again and again")
        if status:
            time.sleep(PAUSE_S)
            workers[fork(function, plan)] = function
        elif function is add:
            workers = {fork(work, plan): work for _ in range(plan["workers"])}


if __name__ == "__main__":
    warm_up()
    if threading.active_count() > 1:
        raise RuntimeError(f"forking is not safe: {threading.enumerate()}")
    gc.freeze()
    main()
