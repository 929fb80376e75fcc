"""A minimal service that responds with links or base64, and the host of its links: one PNG of a given size.

`python -m benchmarks.cdn links 6291456` prints its port and serves until it is killed. The other kind is `base64`.
"""

import asyncio
import base64
import os
import sys
from contextlib import AbstractAsyncContextManager
from itertools import count

from benchmarks.edit_memory import padded_png
from benchmarks.processes import served
from benchmarks.stub import Connection, Service

_INLINE = b'{"created":1706000000,"data":[{"b64_json":"%b"}]}'
_ANSWER = b'{"created":1706000000,"data":[{"url":"http://127.0.0.1:%d/%d.png"}]}'


class Links(Service):
    """Responds to a submit with a link, and to all other requests with the picture."""

    def __init__(self, picture: bytes) -> None:
        super().__init__()
        self.port = 0
        self._numbers = count()
        self._picture = picture

    def respond(self, line: bytes, body: bytes) -> bytes:  # noqa: ARG002
        """Return the response to a request, given its first line."""
        return _ANSWER % (self.port, next(self._numbers)) if line.startswith(b"POST ") else self._picture


class Inline(Service):
    """Responds to a submit with the picture as base64."""

    def __init__(self, picture: bytes) -> None:
        super().__init__()
        self.port = 0
        self._response = _INLINE % base64.b64encode(picture)

    def respond(self, line: bytes, body: bytes) -> bytes:  # noqa: ARG002
        """Return the same response to any request."""
        return self._response


KINDS: dict[str, type[Links | Inline]] = {"links": Links, "base64": Inline}


def linked(size_bytes: int, kind: str = "links") -> AbstractAsyncContextManager[str]:
    """Run this module in a separate process, and return its address."""
    return served("benchmarks.cdn", kind, str(size_bytes))


async def serve(kind: str, size_bytes: int) -> None:
    """Print the port, and serve until the end of the process."""
    links = KINDS[kind](padded_png(size_bytes))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(links), "127.0.0.1", 0, backlog=1000)
    links.port = server.sockets[0].getsockname()[1]
    print(links.port, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    os.nice(19)  # it stands for another machine, so the client has priority
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
