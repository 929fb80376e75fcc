import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lemon_async.batch.store.sqlite.socket_file import SocketFile, connect_to_owner, path_of_socket


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "run.db"


def test_clients_connect_until_it_is_removed(journal):
    file = SocketFile(journal)
    with file.listen() as listener, connect_to_owner(journal) as client, listener.accept()[0] as server:
        server.sendall(b"here")
        assert client.recv(4) == b"here"
    file.remove()
    assert not [*journal.parent.iterdir()]
    with pytest.raises(FileNotFoundError):
        connect_to_owner(journal)


def test_socket_is_for_this_user_from_the_beginning(journal):
    """No other user can connect, whatever the umask is, and at no moment: every name that appears is private."""
    seen = []
    is_over = threading.Event()

    def look():
        while not is_over.is_set():
            for path in journal.parent.iterdir():
                with suppress(FileNotFoundError):
                    seen.append(stat.S_IMODE(path.stat().st_mode) & 0o077)

    watcher = threading.Thread(target=look)
    before = os.umask(0)
    try:
        watcher.start()
        for _ in range(50):
            SocketFile(journal).listen().close()
    finally:
        os.umask(before)
        is_over.set()
        watcher.join()
    assert stat.S_IMODE(path_of_socket(journal).stat().st_mode) == 0o600
    assert not any(seen)


def test_socket_of_a_killed_owner_refuses_and_is_replaced(journal):
    SocketFile(journal).listen().close()
    with pytest.raises(ConnectionRefusedError):
        connect_to_owner(journal)
    with SocketFile(journal).listen(), connect_to_owner(journal):
        assert path_of_socket(journal).is_socket()


def test_path_of_any_length_has_a_socket(tmp_path):
    """An address has 107 bytes at most; folders are often deeper than that."""
    folder = tmp_path / ("deep" * 30) / ("deeper" * 30)
    folder.mkdir(parents=True)
    with SocketFile(folder / "run.db").listen(), connect_to_owner(folder / "run.db"):
        pass


@pytest.mark.parametrize("name", ["missing/run.db", "n" * 200])
def test_place_without_sockets_is_no_error(tmp_path, name):
    """A batch runs without it."""
    listener = SocketFile(tmp_path / name).listen()
    with pytest.raises(OSError):  # which one is the system's choice
        connect_to_owner(tmp_path / name)
    if listener is not None:
        listener.close()


def test_system_without_unix_sockets_is_no_error(journal, monkeypatch):
    monkeypatch.delattr(socket, "AF_UNIX")
    assert SocketFile(journal).listen() is None


def test_link_to_a_journal_leads_to_its_socket(journal):
    link = journal.with_name("link.db")
    link.symlink_to(journal.name)
    assert path_of_socket(link) == Path(f"{journal}.socket")


LISTENING = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
os.setuid(int(sys.argv[1]))
listener.bind(sys.argv[2])
listener.listen()
print("listening", flush=True)
sys.stdin.read()
"""


@contextmanager
def socket_of(user, journal):
    """Listen beside a journal as another user."""
    words = [sys.executable, "-c", LISTENING, str(user), str(path_of_socket(journal))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"listening\n"
            yield
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to become another user")
def test_socket_of_another_user_is_not_trusted():
    """In a folder that others may write to, they may make it before the owner does."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        (journal := Path(folder, "run.db")).touch()
        with socket_of(4242, journal):
            with pytest.raises(PermissionError, match="is of another user than the journal"):
                connect_to_owner(journal)
            os.chown(journal, 4242, 4242)
            connect_to_owner(journal).close()
