"""Fetch source pictures from other servers, as the service does, but from public ones only.

Off by default. When on, four rules keep callers from reaching this machine or its network:

* the URL as written and every address that its name resolves to must be public (`public_urls`);
* the connection is made to the addresses that were checked: the resolver of the connection checks them;
* each redirect is checked in the same way;
* requests carry no key and no cookie, and use no proxy of the environment.

"Edit image" sets the limits: 50 MB per image, 200 MB per request, 10 s and 3 redirects per fetch.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import IO

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from attrs import define, field, frozen
from yarl import URL

from lemon_async._web.host_header import normalize
from lemon_async.emulator.http.bodies import spool
from lemon_async.emulator.http.public_urls import ForbiddenUrl, check_address, check_url
from lemon_async.emulator.service.job_spec import MAX_FETCHED_BYTES
from lemon_async.emulator.service.messages import MAX_FILE_BYTES
from lemon_async.emulator.service_errors import FieldError, ServiceError, excerpt

MAX_REDIRECTS = 3
FETCH_TIMEOUT_S = 10.0

_CHUNK_BYTES = 64 * 2**10
# Socket errors begin with the host and name the cause after it.
_MAX_ERROR_CHARS = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

# An address as text, and a port.
Endpoint = tuple[str, int]


class TooLarge(ValueError):
    """The download exceeds a limit; the message completes "this source ..."."""


@define(eq=False)
class PublicResolver(AbstractResolver):
    """A resolver that refuses names with a private address, except for those of `hosts`."""

    hosts: Mapping[str, Endpoint]
    system: AbstractResolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            ForbiddenUrl: One of them is not public.
        """
        own = self.hosts.get(normalize(host))
        found = await self.system.resolve(*(own or (host, port)), family)
        for row in found:
            row["hostname"] = host
            if own is None:
                check_address(ipaddress.ip_address(row["host"].partition("%")[0]))
        return found

    async def close(self) -> None:
        """Close the system's resolver."""
        await self.system.close()


def _parse_hosts(hosts: Mapping[str, str]) -> dict[str, Endpoint]:
    return {normalize(name): _parse_endpoint(name, where) for name, where in hosts.items()}


def _parse_endpoint(name: str, where: str) -> Endpoint:
    address, _, port = where.rpartition(":")
    try:
        return str(ipaddress.ip_address(address.strip("[]"))), int(port)
    except ValueError as error:
        raise ValueError(f"remote_hosts[{name!r}] must look like 127.0.0.1:8001; got {where!r}") from error


@frozen(kw_only=True)
class SourceFetcher:
    """Fetches source pictures; `hosts` maps names to the addresses to use for them instead of resolving them."""

    is_on: bool = False
    hosts: Mapping[str, Endpoint] = field(factory=dict, converter=_parse_hosts)
    timeout_s: float = FETCH_TIMEOUT_S
    make_resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver

    def __attrs_post_init__(self) -> None:
        if self.hosts and not self.is_on:
            raise ValueError("remote_hosts needs fetch_remote=True")

    async def fetch(self, url: str, param: str, left_bytes: int) -> IO[bytes]:
        """Download a source of at most `left_bytes` into a temporary file, which the caller closes.

        Raises:
            ServiceError: 400 or 413, naming the source in `param`.
        """
        file = spool()
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._follow(url, file, left_bytes)
        except BaseException as error:
            file.close()
            service_error = _service_error(error, param, self.timeout_s)
            if service_error is None:
                raise
            raise service_error from error
        return file

    async def _follow(self, text: str, file: IO[bytes], left_bytes: int) -> None:
        if not self.is_on:
            raise ForbiddenUrl("is not fetched by this emulator; Emulator(fetch_remote=True) switches that on")
        for _ in range(MAX_REDIRECTS + 1):
            location = await self._get(check_url(text), file, left_bytes)
            if location is None:
                return
            text = location
        raise ForbiddenUrl(f"redirects more than {MAX_REDIRECTS} times")

    async def _get(self, url: URL, file: IO[bytes], left_bytes: int) -> str | None:
        """Download into `file`, or return the target of a redirect."""
        resolver = PublicResolver(self.hosts, self.make_resolver())
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as session,
            session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status in _REDIRECTS and "Location" in answer.headers:
                return str(url.join(URL(answer.headers["Location"])))
            if answer.status != 200:
                raise ForbiddenUrl(f"cannot be fetched: its server answers {answer.status}")
            await _download(answer, file, left_bytes)
            return None


async def _download(answer: aiohttp.ClientResponse, file: IO[bytes], left_bytes: int) -> None:
    _check_room(answer.content_length or 0, left_bytes)
    size = 0
    async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
        size += len(chunk)
        _check_room(size, left_bytes)
        file.write(chunk)


def _check_room(size: int, left_bytes: int) -> None:
    if size > MAX_FILE_BYTES:
        raise TooLarge(f"is larger than {MAX_FILE_BYTES // 2**20} MiB")
    if size > left_bytes:
        raise TooLarge(f"makes more than {MAX_FETCHED_BYTES // 2**20} MiB in one request")


def _service_error(error: BaseException, param: str, timeout_s: float) -> ServiceError | None:
    """Return the error response for a failed fetch; None for an exception that is not about fetching."""
    match error:
        case TooLarge():
            return ServiceError(413, message=f"{param}: {error}", param=param)
        case ForbiddenUrl():
            message = str(error)
        case TimeoutError():
            message = f"was not fetched within {timeout_s:g} s"
        case aiohttp.ClientError() | OSError() | ValueError():
            message = f"cannot be fetched: {excerpt(str(error), _MAX_ERROR_CHARS)}"
        case _:
            return None
    return ServiceError.invalid(FieldError(param, message, "image_fetch_failed"))
