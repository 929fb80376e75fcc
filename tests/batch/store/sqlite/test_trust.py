"""Files beside a journal are trusted if they are ours, the journal's owner's or root's."""

import os
import socket

import pytest

from lemon_async.batch.store.sqlite.trust import is_trusted, peer_uid

if os.name != "posix":
    pytest.skip("there are no users", allow_module_level=True)

ANOTHER = 4242


def test_this_user_and_root_are_trusted(tmp_path):
    """Also beside a journal that is gone; root could change the journal itself."""
    for user in (os.geteuid(), 0):
        assert is_trusted(user, tmp_path / "none")
    assert not is_trusted(ANOTHER, tmp_path / "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_owner_of_the_journal_is_trusted(tmp_path):
    (journal := tmp_path / "run.db").touch()
    assert not is_trusted(ANOTHER, journal)
    os.chown(journal, ANOTHER, ANOTHER)
    assert is_trusted(ANOTHER, journal)


@pytest.mark.parametrize("has_credentials", [True, False])
def test_peer_of_a_socket_is_its_owner(tmp_path, monkeypatch, has_credentials):
    """According to the kernel, or else to the file of the socket."""
    if not has_credentials:
        monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen()
        client.connect(str(path))
        assert peer_uid(client, path) == os.geteuid()
