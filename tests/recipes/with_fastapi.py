"""A FastAPI application that orders a picture, reports its progress and streams it to the browser.

    pip install 'fastapi>=0.140' uvicorn
    uvicorn with_fastapi:app --timeout-graceful-shutdown 10

Ordering and fetching are two requests, because proxies give up after a minute: a picture that is bought within one
request is lost with it. A browser that disconnects ends the stream, never the job. A stream holds one of
`max_downloads`, for at most `Timeouts.download_s`, however slow the browser is. The page closes its `EventSource` at
`completed` and `failed`; otherwise it reconnects forever, and the server waits for pages that are left open unless it
has a graceful timeout. Delete jobs that are no longer needed.
"""

from contextlib import aclosing, asynccontextmanager
from typing import Annotated
from uuid import uuid4

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse

from lemon_async import ContractError, ImageTask, LemonError, LemonSession
from lemon_async.errors import BadRequest

jobs: dict[str, ImageTask] = {}  # in this process; to survive a restart, keep each task's resume_token() in a database


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with LemonSession(max_downloads=100) as app.state.lemon:  # one session for all requests
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(LemonError)
async def refuse(request: Request, error: LemonError):
    return JSONResponse({"detail": str(error)}, 422 if isinstance(error, BadRequest | ContractError) else 502)


@app.post("/pictures")
async def order(prompt: str) -> str:
    task = await app.state.lemon.submit(prompt, model="gpt-image-2", output_format="webp", async_=True)
    name = uuid4().hex
    jobs[name] = task
    return name


def find(name: str) -> ImageTask:
    if name not in jobs:
        raise HTTPException(404)
    return jobs[name]


Ordered = Annotated[ImageTask, Depends(find)]


@app.get("/pictures/{name}/progress", response_class=EventSourceResponse)
async def progress(task: Ordered):
    try:
        async for snapshot in task.updates():
            yield {"status": snapshot.status, "progress": snapshot.progress}
    except LemonError as error:  # the job is lost or took too long
        yield {"status": "failed", "error": str(error)}


@app.get("/pictures/{name}")
async def picture(task: Ordered):
    pieces = (await task)[0].stream()
    first = await anext(pieces)  # before the response begins, so that a failure here becomes a 502

    async def body():
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return StreamingResponse(body(), media_type="image/webp")
