"""Own a journal in another process, which can be killed."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

from journals import accept, intend, new_rows
from lemon_async.batch import open_journal


@asynccontextmanager
async def owning_process(path, *, rows=4):
    """Open a journal in a process until it has rows: k0 sold, k1 with its request under way, the others new."""
    arguments = (__file__, str(path), json.dumps(rows))
    owner = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert await owner.stdout.readline() == b"open\n"
        yield owner
    finally:
        if owner.returncode is None:
            owner.kill()
        await owner.wait()


async def kill(owner):
    """Kill the process as a power cut would, without a chance to clean up."""
    owner.kill()
    await owner.wait()


async def main(path, rows):
    async with open_journal(path, create=True) as journal:
        await journal.add(new_rows(rows))
        if rows:
            for change in (intend("k0"), accept("k0"), intend("k1")):
                await journal.record(change)
        sys.stdout.write("open\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
