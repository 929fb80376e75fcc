"""A FastAPI application with several workers and one table of pictures: any worker answers for any picture.

    pip install 'fastapi>=0.140' uvicorn
    uvicorn with_fastapi:app --workers 4 --timeout-graceful-shutdown 10

A page invents a UUID and sends `PUT /pictures/<uuid>?prompt=...`; sending it again buys nothing more. Then it follows
`/pictures/<uuid>/progress` with an `EventSource`, closes that at any state but `pending`, and shows `/pictures/<uuid>`.
A browser that leaves ends its own requests, never an order.

* An order is in the table before it is sent, and its token before the response: what was sold outlives the workers.
* A worker follows what it sold, and saves the pictures, because links expire. It holds a file lock, which the system
  releases however the worker ends; then one of the others adopts its pictures.
* If a worker ends before the service has responded, the order becomes `unknown` and is not sent again: look for it in
  your account (`sqlite3 pictures/jobs.db "SELECT * FROM jobs WHERE state = 'unknown'"`).

By default each worker learns a rate limit for itself. Set `REQUESTS_PER_MINUTE` to that of the account, and
`SHARED_LIMIT` to the URL of a Redis or PostgreSQL server (`redis://localhost`, extra `redis` or `postgres`), and they
share it.

The folder has to be on a local disk. For several machines, put the table into PostgreSQL with an advisory lock for each
worker, and share the pictures. Delete rows and files that are no longer needed.
"""

import asyncio
import fcntl
import logging
import mimetypes
import sqlite3
from contextlib import asynccontextmanager, closing
from os import environ, getpid
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse

from lemon_async import ContractError, ImageTask, LemonError, LemonSession, SubmissionUnknown
from lemon_async.errors import BadRequest, TaskCancelled, TaskFailed, TaskLost

FOLDER = Path("pictures")
SHARED_LIMIT = environ.get("SHARED_LIMIT")
REQUESTS_PER_MINUTE = int(environ.get("REQUESTS_PER_MINUTE", "0"))
WORKER = f"{getpid()}-{uuid4().hex}"
TABLE = """CREATE TABLE IF NOT EXISTS jobs
    (name PRIMARY KEY, prompt, worker, token, state DEFAULT 'pending', progress, error, file)"""
ADOPT = """UPDATE jobs SET worker = ?, state = iif(token IS NULL, 'unknown', state),
    error = iif(token IS NULL, 'the worker ended before the service responded: it may have been sold', error)
    WHERE state = 'pending' AND worker = ?"""
log = logging.getLogger("uvicorn.error")
orders: dict[str, asyncio.Task] = {}  # being sent by this worker
followed: dict[str, asyncio.Task] = {}  # sold, or adopted, by this worker
mimetypes.add_type("image/webp", ".webp")  # unknown to Python before 3.13


async def query(sql: str, *values):
    """Execute a statement, durably. Not in WAL mode, which several processes may corrupt before SQLite 3.51.3."""

    def execute():
        with closing(sqlite3.connect(FOLDER / "jobs.db", timeout=30, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            return db.execute(sql, values).fetchall()

    return await asyncio.to_thread(execute)


async def update(name: str, **values):
    await query(f"UPDATE jobs SET {', '.join(f'{key} = ?' for key in values)} WHERE name = ?", *values.values(), name)


async def buy(name: str, prompt: str):
    new = "INSERT INTO jobs (name, prompt, worker) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING name"
    try:
        if not await query(new, name, prompt, WORKER):
            return  # it was ordered before
        task = await app.state.lemon.submit(prompt, model="gpt-image-2", output_format="webp", async_=True)
        if task.id is not None:  # otherwise the service answered inline
            log.info("picture %s is %s", name, token := task.resume_token())  # the disk may be full
            await update(name, token=token)
        start_following(name, task)
    except LemonError as error:
        await update(name, state="unknown" if isinstance(error, SubmissionUnknown) else "failed", error=str(error))
        raise
    finally:
        del orders[name]


def start_following(name: str, task: ImageTask):
    if name not in followed:
        followed[name] = asyncio.create_task(follow(name, task))


async def follow(name: str, task: ImageTask):
    try:
        async for snapshot in task.updates():
            await update(name, progress=snapshot.progress)
        path = await (await task)[0].save(FOLDER / name)
        await update(name, state="completed", file=path.name)
    except (TaskFailed, TaskCancelled, TaskLost) as error:
        await update(name, state="failed", error=str(error))
    except (LemonError, sqlite3.Error):  # a full disk, a server that is down ...
        log.exception("picture %s is sold and not saved yet", name)
    finally:
        del followed[name]  # `adopt` tries again


def has_ended(worker: str) -> bool:
    with (path := FOLDER / f"{worker}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    path.unlink(missing_ok=True)
    return True


async def adopt():
    """Take over the pictures of workers that have ended, and follow all pictures of this worker."""
    known = {*followed}
    for (other,) in await query("SELECT DISTINCT worker FROM jobs WHERE state = 'pending' AND worker != ?", WORKER):
        if has_ended(other):
            await query(ADOPT, WORKER, other)
    mine = "SELECT name, token FROM jobs WHERE state = 'pending' AND token IS NOT NULL AND worker = ?"
    for name, token in await query(mine, WORKER):
        if name not in known | followed.keys() | orders.keys():
            log.info("picture %s is resumed", name)
            start_following(name, app.state.lemon.task(token))


async def keep_adopting():
    while True:
        try:
            await adopt()
        except (LemonError, OSError, sqlite3.Error):
            log.exception("cannot look for pictures without a worker")
        await asyncio.sleep(5)


@asynccontextmanager
async def lifespan(app: FastAPI):
    FOLDER.mkdir(exist_ok=True)
    await query(TABLE)
    with (FOLDER / f"{WORKER}.lock").open("x") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        limits = {"requests_per_minute": REQUESTS_PER_MINUTE or None, "shared_limit": SHARED_LIMIT}
        async with LemonSession(**limits) as app.state.lemon:  # one session for all requests to this worker
            adopting = asyncio.create_task(keep_adopting())
            yield
            await asyncio.gather(*orders.values(), return_exceptions=True)  # until each is known to be sold or not
            for task in (waiting := [adopting, *followed.values()]):
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        Path(lock.name).unlink()


app = FastAPI(lifespan=lifespan)


@app.exception_handler(LemonError)
async def refuse(request: Request, error: LemonError):
    return JSONResponse({"detail": str(error)}, 422 if isinstance(error, BadRequest | ContractError) else 502)


async def find(name: UUID) -> dict:
    if not (found := await query("SELECT state, progress, error, file FROM jobs WHERE name = ?", str(name))):
        raise HTTPException(404)
    return dict(found[0])


Job = Annotated[dict, Depends(find)]


@app.put("/pictures/{name}", status_code=202)
async def order(name: UUID, prompt: str):
    if (key := str(name)) not in orders:
        orders[key] = asyncio.create_task(buy(key, prompt))
    await asyncio.shield(orders[key])  # a shutdown may cancel this request; it waits for the order
    return await find(name)


@app.get("/pictures/{name}/progress", response_class=EventSourceResponse)
async def progress(name: UUID, job: Job):
    yield job
    while job["state"] == "pending":
        await asyncio.sleep(0.5)
        if (now := await find(name)) != job:
            yield (job := now)


@app.get("/pictures/{name}")
async def picture(job: Job):
    if job["state"] == "pending":
        return JSONResponse(job, 202, headers={"Retry-After": "5"})
    if job["state"] != "completed":
        raise HTTPException(502, job["error"])
    return FileResponse(FOLDER / job["file"])
