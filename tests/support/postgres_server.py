"""A PostgreSQL server of the tests: in a temporary folder, on a free port, gone at the end."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import psycopg
import pytest

from servers import free_port

SUPERUSER = "lemon"
MISSING = "PostgreSQL's server is not installed; for example: apt-get install postgresql"
_HBA = "host all guarded all scram-sha-256\nlocal all all trust\nhost all all all trust\n"
_WITHIN_S = 120.0


def binary(name):
    """Return the path of a program of PostgreSQL, also where Debian hides it; `None` if it is not installed."""
    hidden = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return shutil.which(name) or (str(hidden[-1]) if hidden else None)


def is_installed():
    """Return whether a server can be started here."""
    return binary("initdb") is not None and binary("postgres") is not None


class PostgresServer:
    """A server that is started, stopped and restarted at will; its data stay until `remove`.

    Args:
        fsync: Whether commits are synced to the disk; tests need not survive power cuts.
        settings: Parameters of the server, as in `postgresql.conf`.
    """

    def __init__(self, *, fsync=False, **settings):
        if not is_installed():
            pytest.skip(MISSING)
        on = "on" if fsync else "off"
        self.settings = {"fsync": on, "full_page_writes": on, "max_connections": "100", **settings}
        self.folder = Path(tempfile.mkdtemp(prefix="lemon-pg-", dir="/tmp" if os.name == "posix" else None))
        self.data = self.folder / "data"
        # The server refuses to run as root.
        self._user = {"user": "nobody", "group": "nogroup"} if os.name == "posix" and os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(self.folder, **self._user)
        self._numbers = count()
        self._shared = None
        self.process = None
        self._initialise()
        self.port = free_port()  # not before: another program could take it meanwhile
        self.start()

    def _initialise(self):
        options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={SUPERUSER}"]
        command = [binary("initdb"), f"--pgdata={self.data}", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._user)
        (self.data / "pg_hba.conf").write_text(_HBA)

    def start(self):
        """Start the server, and wait until it accepts connections."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            **self.settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary("postgres"), "-D", str(self.data), *options],
                stderr=log,
                stdout=log,
                cwd=self.folder,
                **self._user,
            )
        deadline = time.monotonic() + _WITHIN_S
        while psycopg.pq.PGconn.ping(self.url("postgres").encode()) != psycopg.pq.Ping.OK:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.01)

    def stop(self, how=signal.SIGQUIT):
        """Stop the server like a crash, or with `SIGINT` in order; connections break."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(_WITHIN_S)
            self.process = None

    def restart(self, how=signal.SIGQUIT):
        """Stop the server and start it again."""
        self.stop(how)
        self.start()

    def remove(self):
        """Stop the server, and delete its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database, user=SUPERUSER):
        """Return the URL of a database; `user` may have a password, as in `name:password`."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self):
        """Create an empty database, and return its URL."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def new_journal(self):
        """Return the URL of a journal that does not exist yet, in a database that tests share."""
        if self._shared is None:
            self._shared = self.new_database()
        return f"{self._shared}?schema=journal_{next(self._numbers)}"

    def execute(self, statement, url=None):
        """Execute a statement, and return its rows if it has any."""
        with psycopg.connect(url or self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []
