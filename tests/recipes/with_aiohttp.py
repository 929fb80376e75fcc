"""An aiohttp.web application that orders a picture, saves it to a folder and serves it from there.

    python with_aiohttp.py

Result links expire within hours; files have a type, a length and a date. Leave `handler_cancellation` off, as it is by
default: a submit that is cancelled because its browser left may have been accepted, and then no task is kept for it.
"""

from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from lemon_async import ContractError, ImageTask, LemonError, LemonSession, TaskTimeout
from lemon_async.errors import BadRequest

FOLDER = Path("pictures")
LEMON = web.AppKey("LEMON", LemonSession)
JOBS = web.AppKey("JOBS", dict[str, ImageTask])
routes = web.RouteTableDef()


async def lemon(app: web.Application):
    async with LemonSession() as app[LEMON]:
        yield


@web.middleware
async def refuse(request: web.Request, handler):
    try:
        return await handler(request)
    except (BadRequest, ContractError) as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    except LemonError as error:
        raise web.HTTPBadGateway(text=str(error)) from error


@routes.post("/pictures")
async def order(request: web.Request) -> web.Response:
    task = await request.app[LEMON].submit(request.query.get("prompt", ""), model="flux-pro")
    name = uuid4().hex
    request.app[JOBS][name] = task
    return web.Response(status=202, headers={"Location": f"/pictures/{name}"})


@routes.get("/pictures/{name}")
async def picture(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name not in request.app[JOBS]:
        raise web.HTTPNotFound
    task = request.app[JOBS][name]
    with suppress(TaskTimeout):
        await task.wait(timeout=20)  # shorter than the timeout of a proxy
    if not task.done():
        return web.Response(status=202, headers={"Retry-After": "5"})
    images = await task
    return web.FileResponse(images[0].path or await images[0].save(FOLDER / name))


app = web.Application(middlewares=[refuse])
app[JOBS] = {}
app.cleanup_ctx.append(lemon)
app.add_routes(routes)
if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1")
