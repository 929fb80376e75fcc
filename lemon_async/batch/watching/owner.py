"""Ask the process that has a journal open, through the socket beside the file."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import orjson

from lemon_async.batch.watching.wire import to_line

__all__ = ["OwnerGone", "OwnerLink"]

_ANSWER_WITHIN_S = 10.0
_MOST_BYTES = 2**24


class OwnerGone(Exception):
    """The owner does not answer any more."""


class OwnerLink:
    """A connection to the owner; one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    async def over(cls, connection: socket.socket) -> "OwnerLink":
        """Return a link over a connected socket."""
        return cls(*await asyncio.open_unix_connection(sock=connection, limit=_MOST_BYTES))

    async def ask(self, **question: Any) -> Mapping[str, Any]:
        """Return the answer to a question. Cancelling closes the link.

        Raises:
            OwnerGone: There is none; the link is closed.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    self._writer.write(to_line(question))
                    answer = orjson.loads(await self._reader.readline())
            except (OSError, ValueError) as fault:
                self.close()
                raise OwnerGone from fault
            except BaseException:
                self.close()
                raise
            if not isinstance(answer, dict) or "error" in answer:
                raise OwnerGone(str(answer))
            return answer

    def close(self) -> None:
        """Close the connection; may be called again."""
        self._writer.transport.abort()
