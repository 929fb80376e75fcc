"""The emulator: puts its parts together, and starts and stops the server in the caller's event loop."""

import asyncio
import hashlib
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from lemon_async._web.host_header import AllowedHosts, is_loopback
from lemon_async.emulator.actions import Action
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.http.endpoints import Endpoints
from lemon_async.emulator.http.faults import Fault, Match, Route
from lemon_async.emulator.http.handler import RecordedRequest, RequestHandler
from lemon_async.emulator.http.server import Server
from lemon_async.emulator.http.source_fetcher import SourceFetcher
from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.files import Files
from lemon_async.emulator.service.image_jobs import ImageJobs
from lemon_async.emulator.service.ledger import Ledger
from lemon_async.emulator.service.rate_limit import FixedWindow
from lemon_async.emulator.service.store import Durations, Store
from lemon_async.emulator.web.ledger_file import LedgerFile
from lemon_async.emulator.web.studio import Studio

# The address at which this machine reaches a server that listens on all addresses.
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


class Emulator:
    """The LemonData image API as a real HTTP server on this machine.

    `async with Emulator() as emu:` listens on a free port of the loopback interface until the block ends. Nothing costs
    money, no key leaves the machine, and the same seed gives the same results.

    Args:
        speed: Number of emulated seconds in a real one. Every response announces it in `X-Emulator-Speed`.
        durations: Median duration of jobs in emulated seconds, for all models or by model; None is realistic.
        seed: Seed of keys, ids, durations and pictures.
        api_key: The accepted key. None generates one: from `seed` if only this machine can reach `host`, otherwise a
            random one.
        host: Address to listen on, or `0.0.0.0` (`::` for IPv6) for all addresses of this machine.
        allowed_hosts: Names by which clients reach this emulator, e.g. `{"emulator"}` for a service of that name in a
            docker-compose file. Requests for other names get a 421, so that no web page can reach the emulator by DNS
            rebinding; `localhost`, `host` and addresses are always served, at any port.
        port: Port to listen on; 0 takes a free one.
        requests_per_minute: Limit per key and real minute; None is unlimited.
        link_ttl_s: Lifetime of a result link, in real seconds.
        balance_usd: Balance of the account; None is unlimited.
        cancellable: Whether `DELETE /v1/tasks/{id}` works; with the current image models of the service it does not.
        fetch_remote: Fetch the `image_url`s of edits from the public internet; otherwise they are refused.
        remote_hosts: Names in `image_url`s with the address and port to use for them, e.g.
            `{"pictures.example": "127.0.0.1:8001"}`: the only way to reach a server on this machine.
        studio: Serve a page at `/` that shows pictures, requests and ledger, and switches faults. The page contains
            `api_key`, so with another `host` everybody who can connect may use it.
        ledger_file: Append each entry of the ledger to this file as a line of JSON: reservations before the response is
            sent, ends of jobs within a second, whether or not they are polled.

    Raises:
        ValueError, TypeError: `speed`, `port`, `host`, `allowed_hosts` or `remote_hosts` cannot be used.
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
        studio: bool = False,
        ledger_file: str | PathLike[str] | None = None,
    ) -> None:
        if port not in range(65_536):
            raise ValueError(f"port must be a whole number from 0 to 65535, not {port!r}")
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
        fetcher = SourceFetcher(is_on=fetch_remote, hosts=remote_hosts or {})
        jobs = ImageJobs(self._store, self._renderer, self._clock, self._files, fetcher.fetch)
        endpoints = Endpoints(self._store, self._clock, jobs, self._files)
        hosts = AllowedHosts(host, allowed_hosts)
        self._handler = RequestHandler(
            endpoints=endpoints,
            store=self._store,
            clock=self._clock,
            keys=self._keys,
            hosts=hosts,
            limit=None if requests_per_minute is None else FixedWindow(requests_per_minute),
        )
        if studio:
            Studio(
                store=self._store,
                clock=self._clock,
                renderer=self._renderer,
                handler=self._handler,
                endpoints=endpoints,
                hosts=hosts,
                api_key=self.api_key,
            )
        self._server: Server | None = None
        self._kept: socket.socket | None = None
        self._ledger_file = None if ledger_file is None else LedgerFile(Path(ledger_file), self._store, self._clock)

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

    # Starting and stopping

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
        """Start to listen; does nothing if the emulator is running.

        Raises:
            ImportError: Pillow is missing; the message says what to install.
            OSError: The port is taken, or `ledger_file` cannot be written.
            RuntimeError: The emulator runs in another event loop.
        """
        if self._server is not None:
            self._server.check_owner()
            return
        await self._renderer.open()
        try:
            if self._ledger_file is not None:
                self._ledger_file.open()
            self._server = await Server.start(self._handler, self._host, self._port, self._kept)
            self._kept = None
        except BaseException:
            self._renderer.close()
            if self._ledger_file is not None:
                self._ledger_file.close()
            raise
        self._port = self._server.port

    async def aclose(self) -> None:
        """Reset all connections and stop, within about a second.

        The ledger stays readable; uploaded files and the sources of edits are deleted.

        Raises:
            RuntimeError: The emulator runs in another event loop.
        """
        await self._stop()
        if self._kept is not None:  # by a restart that was cancelled
            self._kept.close()
            self._kept = None
        if self._ledger_file is not None:
            self._ledger_file.close()
        self._files.clear()
        self._blobs.close()

    async def _stop(self, *, keeps_port: bool = False) -> None:
        server = self._server
        if server is not None:
            server.check_owner()
            self._server = None
            if self._handler.pages is not None:
                self._handler.pages.close()
            self._kept = server.keep_port() if keeps_port else None
            await server.aclose()
        self._renderer.close()

    async def restart(self, *, keep_tasks: bool = True, down_s: float = 0.0) -> None:
        """Reset all connections, stop, and start again on the same port.

        Args:
            keep_tasks: Whether tasks, links and files survive; lost tasks are released in the ledger.
            down_s: Real seconds for which connections are refused.

        Raises:
            RuntimeError: The emulator runs in another event loop.
        """
        await self._stop(keeps_port=True)
        if not keep_tasks:
            self._store.settle(self.now())
            self._store.clear_tasks(self.now())
            self._files.clear()
        await asyncio.sleep(down_s)
        await self.start()

    # Observing

    @property
    def base_url(self) -> str:
        """The origin for clients on this machine, e.g. `http://127.0.0.1:40123`.

        Raises:
            RuntimeError: The emulator has not been started, or its event loop does not run while the caller's does.
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
        """The billing record as of now; read it again for jobs that end later."""
        self._store.settle(self.now())
        return self._store.ledger

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last 100,000 requests whose head arrived, oldest first."""
        return list(self._handler.requests)

    @property
    def connections(self) -> int:
        """Number of open TCP connections."""
        return len(self._handler.connections)

    @property
    def key_leaks(self) -> int:
        """Number of downloads that carried a key or a cookie; a good client keeps this at 0."""
        return self._handler.key_leaks

    def now(self) -> float:
        """Return the emulated seconds since this object was created."""
        return self._clock.now()

    def add_key(self, key: str) -> str:
        """Accept another key, which has tasks and files of its own; return it."""
        self._keys.add(key)
        return key

    # Faults

    @property
    def faults(self) -> list[Fault]:
        """The registered faults, in the order in which they are looked up."""
        return self._handler.faults

    def fault(self, route: Route, *actions: Action, **match: Unpack[Match]) -> Fault:
        """Register a fault; `match` takes the keyword arguments of `Fault`.

        Raises:
            ValueError: The parts cannot work together.
        """
        fault = Fault(route, actions, **match)
        self.faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Remove all faults."""
        self.faults.clear()


def _make_key(host: str, seed: int) -> str:
    """Return the same key in every run, or a random one if other machines can connect."""
    reproducible = hashlib.sha256(f"key:{seed}".encode()).hexdigest()[:32]
    return f"sk-emulator-{reproducible if is_loopback(host) else secrets.token_hex(16)}"
