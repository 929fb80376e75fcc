"""A certificate authority of the tests, made by `openssl`, and a PostgreSQL server that uses it for a while."""

import atexit
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
import pytest

__all__ = ["Authority", "authority", "postgres_over_tls"]

_WITHIN_S = 60.0
_CONFIG = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_NEW = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


class Authority:
    """It signs certificates for 127.0.0.1; the test is skipped where `openssl` is not installed.

    Attributes:
        file: Its own certificate.
    """

    def __init__(self):
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed: apt-get install openssl")
        self.folder = Path(tempfile.mkdtemp(prefix="tls-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "config").write_text(_CONFIG)
        self.file, self._key = self._make("authority")

    def issue(self):
        """Return the files of a new certificate and of its key."""
        return self._make("server", "-CA", self.file, "-CAkey", self._key)

    def _make(self, kind, *options):
        certificate, key = self.folder / f"{kind}.pem", self.folder / f"{kind}.key"
        named = ("-config", "config", "-extensions", kind, "-subj", f"/CN=lemon {kind}")
        command = [*_NEW, *named, *options, "-out", certificate, "-keyout", key]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)
        return certificate, key


@cache
def authority():
    """Return the one authority of this process."""
    return Authority()


@contextmanager
def postgres_over_tls(server):
    """Let a server also speak TLS, and yield the address of a new database, without options."""
    for source, name in zip(authority().issue(), ("server.crt", "server.key"), strict=True):
        shutil.copy(source, server.data / name)
        owner = server.data.stat()
        shutil.chown(server.data / name, owner.st_uid, owner.st_gid)
        (server.data / name).chmod(0o600)
    try:
        _set_tls(server, "on")
        yield server.new_database()
    finally:
        _set_tls(server, "off")


def _set_tls(server, value):
    server.execute(f"ALTER SYSTEM SET ssl = {value}")
    server.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + _WITHIN_S
    while _speaks_tls(server) != (value == "on"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _speaks_tls(server):
    with psycopg.connect(server.url("postgres"), sslmode="prefer") as connection:
        return connection.pgconn.ssl_in_use
