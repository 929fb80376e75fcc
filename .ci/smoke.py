"""Use what an extra brings, in an environment where only that extra is installed: `python smoke.py EXTRA`."""

import asyncio
import subprocess
import sys
import sysconfig
from pathlib import Path

import lemon_async
from lemon_async import LemonSession, RetryPolicy, TransportError


async def generate(**options):
    from lemon_async.emulator import Emulator

    async with Emulator(speed=600) as emulator, LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        return await session.generate("a cat", model="dall-e-3", **options)


def unreachable(shared_limit):
    """Return whether a shared limit fails because its server is not there, and not for want of its driver."""

    async def generate():
        options = {"requests_per_minute": 60, "shared_limit": shared_limit, "retry": RetryPolicy(max_elapsed_s=0)}
        async with LemonSession("sk-x", **options) as session:
            await session.generate("a cat")

    try:
        asyncio.run(generate())
    except TransportError:
        return True
    except lemon_async.ContractError as error:
        return "pip install" not in str(error)


def core():
    assert all(hasattr(lemon_async, name) for name in lemon_async.__all__)
    LemonSession("sk-x").validate("a cat")


def cli():
    command = Path(sysconfig.get_path("scripts"), "lemon-async")
    for option in ("--version", "--help"):
        subprocess.run([command, option], check=True, stdout=subprocess.DEVNULL)


def emulator():
    assert len(asyncio.run(generate())) == 1


def notebook():
    async def show():
        async with LemonSession("sk-x", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_elapsed_s=0)) as session:
            await session.generate("a cat", progress=True)

    import ipywidgets  # the bar is one of its widgets

    assert ipywidgets.IntProgress
    try:
        asyncio.run(show())
    except TransportError:
        return
    raise AssertionError


def otel():
    from lemon_async.telemetry import Telemetry

    async def fail():
        options = {"base_url": "http://127.0.0.1:9", "retry": RetryPolicy(max_elapsed_s=0), "on_event": Telemetry()}
        async with LemonSession("sk-x", **options) as session:
            await session.generate("a cat")

    try:
        asyncio.run(fail())
    except TransportError:
        return
    raise AssertionError


def parquet():
    import pyarrow as pa
    from pyarrow.parquet import write_table

    async def plan():
        async with LemonSession("sk-x") as session:
            return await session.batch("run.db", "rows.parquet").plan()

    write_table(pa.table({"prompt": ["a cat", "a dog"]}), "rows.parquet")
    assert asyncio.run(plan()).rows == 2


def postgres():
    import psycopg  # with its own libpq

    assert psycopg.pq.__impl__ == "binary"
    assert unreachable("postgresql://127.0.0.1:9/account")


def ray():
    import ray.data  # and what it needs

    assert ray.data.Dataset
    postgres()


def redis():
    assert unreachable("redis://127.0.0.1:9")


def sheet():
    from lemon_async.sheet import contact_sheet

    asyncio.run(contact_sheet([], "sheet.html"))
    assert "<html" in Path("sheet.html").read_text()


globals()[sys.argv[1]]()
print("works alone:", sys.argv[1])
