"""A minimal server for measuring clients: it parses as little as possible, and has inline jobs and tasks.

`POST /v1/images/generations` responds inline, except for `flux-pro` and `midjourney`, whose jobs become tasks. Tasks of
`flux-pro` are completed at the first poll, those of `midjourney` are pending until `POST /release`. `GET /counts`
returns the number of submits and polls. `python -m benchmarks.stub` prints its port and serves until it is killed.
"""

import asyncio
import json
import urllib.request
from collections import Counter
from itertools import count

TASK_MODEL = "flux-pro"
HELD_MODEL = "midjourney"

_END = b"\r\n\r\n"
_IMAGE = b'"data":[{"url":"https://cdn.example.com/a.png","revised_prompt":"a cat on a windowsill"}]}'
_INLINE = b'{"created":1706000000,' + _IMAGE
_TASK = (
    b'{"created":1706000000,"id":"%b","task_id":"%b","status":"pending","poll_url":"/v1/tasks/%b",'
    b'"data":[{"url":"","revised_prompt":"a cat on a windowsill"}]}'
)
_PENDING = b'{"created":1706000000,"id":"%b","task_id":"%b","status":"pending","data":[]}'
_COMPLETED = b'{"created":1706000000,"id":"%b","task_id":"%b","status":"completed",' + _IMAGE


class Service:
    """The state that all connections share."""

    def __init__(self) -> None:
        self._serial = count()
        self._is_released = False
        self._counts: Counter[str] = Counter()

    def respond(self, line: bytes, body: bytes) -> bytes:
        """Return the JSON response to a request, given its first line and its body."""
        method, path, _ = line.split(b" ", 2)
        if path.startswith(b"/v1/tasks/"):
            self._counts["polls"] += 1
            return self._state(path[10:])
        if path == b"/v1/images/generations":
            self._counts["submits"] += 1
            return self._accept(body)
        self._is_released = self._is_released or (method, path) == (b"POST", b"/release")
        return json.dumps(self._counts).encode()

    def _accept(self, body: bytes) -> bytes:
        for model in (TASK_MODEL, HELD_MODEL):
            if b'"%b"' % model.encode() in body:
                name = f"task-{model}-{next(self._serial)}".encode()
                return _TASK % (name, name, name)
        return _INLINE

    def _state(self, name: bytes) -> bytes:
        is_held = name.startswith(b"task-%b-" % HELD_MODEL.encode()) and not self._is_released
        return (_PENDING if is_held else _COMPLETED) % (name, name)


class Connection(asyncio.Protocol):
    """One keep-alive connection; each request has a `Content-Length` or no body."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - stream servers have such transports
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Respond to every complete request."""
        self._received += data
        while (end := self._received.find(_END)) >= 0:
            head, body_at = self._received[:end], end + len(_END)
            body_end = body_at + _content_length(head)
            if len(self._received) < body_end:
                return
            body, self._received = self._received[body_at:body_end], self._received[body_end:]
            content = self._service.respond(head[: head.index(b"\r\n")], body)
            self._transport.write(_HEAD % len(content) + content)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def release(base_url: str) -> None:
    """Complete every held task, now and later."""
    _ask(urllib.request.Request(f"{base_url}/release", method="POST"))  # noqa: S310 - as in `_ask`


def requests_so_far(base_url: str) -> int:
    """Return how many submits and polls the server has served."""
    return sum(_ask(urllib.request.Request(f"{base_url}/counts")).values())  # noqa: S310 - as in `_ask`


def _ask(request: urllib.request.Request) -> dict[str, int]:
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - our own server, on this machine
        counts: dict[str, int] = json.load(response)
    return counts


async def serve() -> None:
    """Print the port, and serve until the end of the process."""
    service = Service()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(service), "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
