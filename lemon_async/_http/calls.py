"""Send requests that cost nothing, and send them again where the retry table allows it."""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlencode

from lemon_async._api.response import MAX_CALL_BYTES, Response
from lemon_async._api.urls import path_segment
from lemon_async._formats.json_documents import safe_repr
from lemon_async._http.transport import Payload, Transport, retrying
from lemon_async._pace.retry import RequestKind, RetryPolicy
from lemon_async.errors import ContractError

__all__ = ["Calls", "path_of"]

T = TypeVar("T")


class Calls:
    """The free requests of one session, apart from polls.

    Args:
        transport: Sends them.
        policy: How often, and for how long, a request is retried.
    """

    def __init__(self, transport: Transport, policy: RetryPolicy) -> None:
        self._transport = transport
        self._policy = policy

    async def read(
        self,
        path: str,
        reader: Callable[[Response], T],
        *,
        query: Mapping[str, str] | None = None,
        total_s: float | None = None,
        max_bytes: int = MAX_CALL_BYTES,
        is_file: bool = False,
    ) -> T:
        """Send a GET and return what `reader` makes of the response; retried after anything but a refusal.

        Args:
            path: Path below the base URL.
            reader: Raises `ApiError` for a refusal.
            query: Query parameters.
            total_s: Bound of one attempt, by default `Timeouts.request_s`.
            max_bytes: Bound of the response.
            is_file: Whether the response is a file, not JSON.

        Raises:
            ContractError: A query parameter cannot be sent.
            TransportError: There was no response, and no time is left for another attempt.
            ApiError: The service refused it.
        """

        async def attempt(_: float | None) -> T:  # without a limit to its patience: waiting costs nothing
            response = await self._transport.call("GET", target, total_s=total_s, max_bytes=max_bytes, is_file=is_file)
            return reader(response)

        for name, value in (query or {}).items():
            if not _is_utf8(value):
                raise ContractError.of(name, f"must be text without lone surrogates, not {safe_repr(value)}")
        target = f"{path}?{urlencode(query)}" if query else path
        what = f"GET {path}"
        return await retrying(attempt, RequestKind.READ, what, policy=self._policy, transport=self._transport)

    async def change(
        self, method: str, path: str, reader: Callable[[Response], T], *, payload: Payload | None = None
    ) -> T:
        """Send a request with an effect, at most once; retried only if it was not executed.

        Raises:
            TransportError: There was no response; `was_sent` is true if it may have been executed.
            ApiError: The service refused it.
        """

        async def attempt(_: float | None) -> T:
            return reader(await self._transport.call(method, path, payload=payload))

        what = f"{method} {path}"
        return await retrying(attempt, RequestKind.CHANGE, what, policy=self._policy, transport=self._transport)


def _is_utf8(value: object) -> bool:
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value


def path_of(collection: str, **ids: str) -> str:
    """Return the path of one member of a collection, given its id as a keyword argument.

    Raises:
        ContractError: The id cannot be part of a path.
    """
    ((kind, word),) = ids.items()
    try:
        return f"{collection}/{path_segment(word)}"
    except (ValueError, TypeError) as fault:
        raise ContractError.of(kind, f"cannot be an id: {fault}") from None
