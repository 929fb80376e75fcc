"""The emulator: the image API on this machine, in the event loop of the program that uses it."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, Unpack

from lemon_async.emulator.actions import Action
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.http.endpoints import Endpoints
from lemon_async.emulator.http.faults import Fault, Match, Route
from lemon_async.emulator.http.handler import RecordedRequest, RequestHandler
from lemon_async.emulator.http.host_header import AllowedHosts, is_loopback
from lemon_async.emulator.http.server import Server
from lemon_async.emulator.http.source_fetcher import SourceFetcher
from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.files import Files
from lemon_async.emulator.service.image_jobs import ImageJobs
from lemon_async.emulator.service.ledger import Ledger
from lemon_async.emulator.service.rate_limit import FixedWindow
from lemon_async.emulator.service.store import Durations, Store

# Where this machine reaches a server that listens at all its addresses.
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


class Emulator:
    """The LemonData image API as a real HTTP server on this machine.

    `async with Emulator() as emu:` listens on a free port of the loopback interface until the block
    ends. Nothing costs money, no key leaves the machine, and everything is reproducible for a seed.

    Args:
        speed: How many emulated seconds pass in a real one; durations shrink accordingly.
        durations: Median seconds of a job, for all models or by model; None is realistic.
        seed: What keys, ids, durations and pictures are drawn from.
        api_key: The accepted key; None makes one: a secret one if other machines can reach `host`, else that of `seed`.
        host: Where to listen: an address of this machine, or `0.0.0.0` (`::` for IPv6) for all of them.
        allowed_hosts: Names by which clients reach this emulator, e.g. `{"emulator"}` for a service of that name in a
            docker-compose file. Requests for other names get a 421, so that no page in a browser can pretend to be
            this server; `localhost`, `host` and addresses are always served, at any port.
        port: Where to listen; 0 takes a free port.
        requests_per_minute: The limit per key and real minute; None is unlimited.
        link_ttl_s: Real seconds that a result link lives.
        balance_usd: What the account has; None is unlimited.
        cancellable: Whether `DELETE /v1/tasks/{id}` works; with the image models of today it does not.
        fetch_remote: Fetch the `image_url`s of edits from the public internet; without it they are refused.
        remote_hosts: Names of `image_url`s that the emulator resolves itself, e.g.
            `{"pictures.example": "127.0.0.1:8001"}`: the only way to a server on this machine.

    Raises:
        ValueError: `host`, `allowed_hosts` or `remote_hosts` cannot be used.
    """

    def __init__(
        self,
        *,
        speed: float = 1.0,
        durations: Durations = None,
        seed: int = 0,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        allowed_hosts: Iterable[str] = (),
        port: int = 0,
        requests_per_minute: int | None = None,
        link_ttl_s: float = 7200.0,
        balance_usd: float | None = None,
        cancellable: bool = False,
        fetch_remote: bool = False,
        remote_hosts: Mapping[str, str] | None = None,
    ) -> None:
        hosts = AllowedHosts(host, allowed_hosts)
        self.api_key: str = api_key or _make_key(host, seed)
        self._host = "127.0.0.1" if host == "localhost" else host
        self._port = port
        self._keys = {self.api_key}
        self._clock = Clock(speed)
        self._renderer = Renderer()
        self._store = Store(
            seed=seed,
            durations=durations,
            link_ttl_s=link_ttl_s * speed,
            balance_usd=balance_usd,
            is_cancellable=cancellable,
        )
        self._blobs = BlobStore()
        self._files = Files(self._blobs, self._renderer, self._clock, seed)
        remote = SourceFetcher(is_on=fetch_remote, hosts=remote_hosts or {})
        jobs = ImageJobs(self._store, self._renderer, self._clock, self._files, remote.fetch)
        endpoints = Endpoints(self._store, self._clock, jobs, self._files)
        limit = None if requests_per_minute is None else FixedWindow(requests_per_minute)
        self._service = RequestHandler(
            endpoints=endpoints,
            store=self._store,
            clock=self._clock,
            keys=self._keys,
            hosts=hosts,
            limit=limit,
        )
        self._server: Server | None = None

    def __repr__(self) -> str:
        now = self.now()
        where = f"{self._origin()} running" if self._server else "stopped"
        states = Counter(task.status(now) for task in self._store.tasks.values())
        tasks = ", ".join(f"{count} {status}" for status, count in sorted(states.items()))
        ledger = self.ledger
        return (
            f"<Emulator {where} at {self._clock.speed:g}x, tasks: {tasks or 'none'}, "
            f"sold {ledger.sold.total()}, open {len(ledger.open)}, ${ledger.held_usd:.3f}, "
            f"{self.connections} connections, {len(self.requests)} requests, "
            f"{len(self.faults)} faults>"
        )

    # Life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Begin to listen; does nothing when it already does.

        Raises:
            ImportError: Pillow is missing; the message says what to install.
            OSError: The port is taken.
            RuntimeError: It listens in another event loop.
        """
        if self._server is not None:
            self._server.check_owner()
            return
        await self._renderer.open()
        try:
            await self._listen()
        except BaseException:
            self._renderer.close()
            raise

    async def aclose(self) -> None:
        """Break all connections and stop, within about a second; what was sold stays readable.

        Uploaded files are gone then, and so are the sources of edits.

        Raises:
            RuntimeError: It listens in another event loop.
        """
        await self._stop()
        self._files.clear()
        self._blobs.close()

    async def _stop(self) -> None:
        server = self._server
        if server is not None:
            server.check_owner()
            self._server = None
            await server.aclose()
        self._renderer.close()

    async def restart(self, *, keep_tasks: bool = True, down_s: float = 0.0) -> None:
        """Go down with all connections and come back on the same port.

        Args:
            keep_tasks: Whether tasks, links and files survive; lost tasks are released in the ledger.
            down_s: Real seconds in which connections are refused.

        Raises:
            RuntimeError: It listens in another event loop.
        """
        await self._stop()
        if not keep_tasks:
            self._store.settle(self.now())
            self._store.clear_tasks()
            self._files.clear()
        await asyncio.sleep(down_s)
        await self.start()

    async def _listen(self) -> None:
        self._server = await Server.start(self._service, self._host, self._port)
        self._port = self._server.port

    # What users look at

    @property
    def base_url(self) -> str:
        """The origin for clients on this machine, e.g. `http://127.0.0.1:40123`; known once started.

        Raises:
            RuntimeError: It has not been started, or its event loop does not run while the caller's does.
        """
        if self._port == 0:
            raise RuntimeError("the emulator has no port yet: start() it, or use `async with`")
        if self._server is not None:
            self._server.check_running()
        return self._origin()

    def _origin(self) -> str:
        host = _LOOPBACK_OF.get(self._host, self._host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def ledger(self) -> Ledger:
        """The billing record, brought up to this moment; ask again for what ends later."""
        self._store.settle(self.now())
        return self._store.ledger

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request whose head arrived, oldest first; of a long life the last 100,000 or so."""
        return self._service.requests

    @property
    def connections(self) -> int:
        """How many TCP connections are open."""
        return len(self._service.connections)

    @property
    def key_leaks(self) -> int:
        """How many downloads carried a key or a cookie; a good client keeps this at 0."""
        return self._service.key_leaks

    def now(self) -> float:
        """Emulated seconds since this object was made."""
        return self._clock.now()

    def add_key(self, key: str) -> str:
        """Accept another key, which owns its own tasks; returns it."""
        self._keys.add(key)
        return key

    # Faults

    @property
    def faults(self) -> list[Fault]:
        """The registered faults, in the order they are asked."""
        return self._service.faults

    def fault(self, route: Route, *do: Action, **match: Unpack[Match]) -> Fault:
        """Register a fault; `match` takes the keyword arguments of `Fault`.

        Raises:
            ValueError: The parts cannot work together.
        """
        fault = Fault(route, do, **match)
        self.faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Behave from now on."""
        self.faults.clear()


def _make_key(host: str, seed: int) -> str:
    """The same key in every run, or a random one if other machines could use it."""
    reproducible = hashlib.sha256(f"key:{seed}".encode()).hexdigest()[:32]
    return f"sk-emulator-{reproducible if is_loopback(host) else secrets.token_hex(16)}"
