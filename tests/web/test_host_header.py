"""Which Host headers are served."""

import pytest

from lemon_async._web.host_header import AllowedHosts
from lemon_async.emulator import Emulator

HOSTS = AllowedHosts("192.168.1.2", ["Emulator", "studio.example."])


def test_own_names_allowed_names_and_addresses_are_served_at_any_port():
    headers = [
        "localhost",
        "LocalHost:1",
        "127.0.0.1",
        "127.0.0.1:65535",
        "127.9.9.9:80",
        "[::1]",
        "[::1]:8000",
        "192.168.1.2:8000",
        "emulator",
        "EMULATOR:8000",
        "studio.example:9000",
        # An address is not a name, so it cannot be rebound.
        "10.0.0.7:8000",
        "[2001:db8::7]:8000",
    ]
    assert [header for header in headers if not HOSTS.accept(header)] == []


def test_other_names_and_malformed_headers_are_refused():
    headers = [
        "",
        ":80",
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.emulator",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "evil.example/localhost",
        "127.0.0.1:80:80",
        "127.0.0.1:port",
        "127.0.0.1:999999",
        "127.1",
        "0x7f000001",
        "2130706433",
        "::1",
        "[::1",
        "[localhost]",
        "[127.0.0.1]",
        "localhost ",
        "localhost,evil.example",
        "[fe80::1%eth0]",
    ]
    assert [header for header in headers if HOSTS.accept(header)] == []


def test_name_of_the_listener_is_served():
    assert AllowedHosts("studio", ()).accept("studio:8000")
    assert not AllowedHosts("127.0.0.1", ()).accept("studio:8000")


def test_allowed_hosts_are_plain_names():
    for name in ("emulator:8000", "http://emulator", "*", "*.example", "", "a b", 7):
        with pytest.raises(ValueError, match="allowed_hosts"):
            Emulator(allowed_hosts=[name])
    with pytest.raises(ValueError, match=r"several names, e\.g\. \{'emulator'\}"):
        Emulator(allowed_hosts="emulator")


def test_host_must_be_given():
    with pytest.raises(ValueError, match="host"):
        Emulator(host="")
