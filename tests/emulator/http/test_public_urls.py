"""Which URLs and addresses count as public."""

import ipaddress

import pytest

from lemon_async.emulator.http.public_urls import MAX_URL_CHARS, ForbiddenUrl, check_url, is_public, parse_address


def wide(text):
    """Return the text in full-width letters, which normalization turns into plain ones."""
    return "".join(chr(ord(letter) + 0xFEE0) for letter in text)


def test_public_url_is_accepted():
    urls = [
        "http://pictures.example/cat.png",
        "https://pictures.example:8443/a?b=c%20d",
        "HTTPS://Pictures.Example",
        "http://pictures.example./",
        "http://bücher.example/",
        "http://8.8.8.8/",
        "http://[2606:4700::1111]/",
        "http://0x08080808/",
        "http://my_host.example/",
    ]
    assert [str(check_url(url).origin()) for url in urls]


PRIVATE_HOSTS = (
    # this machine and its network, as names
        "localhost", "LOCALHOST", "localhost.", "localhost..", "a.localhost", "printer.local", "db.internal",
        "db.internal.", "router.home.arpa", "intranet", "x",
        wide("localhost"), "\N{CIRCLED LATIN SMALL LETTER L}ocalhost",
        # as addresses, written in all the ways that resolvers understand
        "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "0x7f.1", "0x7F000001", "2130706433", "017700000001",
        "0177.0.0.1", "0", "0.0.0.0", wide("127") + ".0.0.1", "127\u30020\u30020\u30021", wide("127.0.0.1"),
        "\u2460\u2461\u2466.0.0.1", "10.1.2.3",
        "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.127.255.255", "169.254.169.254",
        "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1",
        "239.255.255.250", "240.0.0.1", "255.255.255.255", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]",
        "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::8.8.8.8]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001::1]",
        "[2001:db8::1]", "[fe80::1]", "[fe80::1%25eth0]", "[fc00::1]", "[fd12::1]", "[ff02::1]", "[100::1]",
        "[3fff::1]", "[5f00::1]",
        # neither
        "1.2.3.4.5", "256.1.1.1", "0x100000000", "08.8.8.8", "a..example", "-", "%31%32%37.0.0.1", "",
)  # fmt: skip


def test_host_that_is_not_public_is_refused():
    for host in PRIVATE_HOSTS:
        with pytest.raises(ForbiddenUrl):
            pytest.fail(f"accepted: {check_url(f'http://{host}/cat.png')}")


def test_malformed_url_is_refused():
    rows = [
        ("ftp://pictures.example/", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("data:image/png;base64,AAAA", "http or https"),
        ("//pictures.example/", "http or https"),
        ("cat.png", "http or https"),
        ("", "http or https"),
        ("http://user@pictures.example/", "credentials"),
        ("http://user:pass@pictures.example/", "credentials"),
        ("http://@pictures.example/", "credentials"),
        ("http://127.0.0.1\\@pictures.example/", "backslashes"),
        ("http://pictures.example/#x", "fragment"),
        ("http://pictures.example/#", "fragment"),
        ("http://pictures.example/a b", "spaces"),
        ("http://pictures.example/\r\nX: y", "control"),
        ("http://pictures.example/\0", "control"),
        ("http://pictures.example:99999/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http:///cat.png", "no "),
        ("http://pictures.example/" + "x" * MAX_URL_CHARS, "longer than"),
    ]
    for url, reason in rows:
        with pytest.raises(ForbiddenUrl, match=reason):
            check_url(url)


def test_addresses_are_parsed_as_resolvers_parse_them():
    assert {str(parse_address(text)) for text in ("127.1", "0x7f.1", "2130706433", "017700000001")} == {"127.0.0.1"}
    assert {parse_address(name) for name in ("example.com", "0x7f.example", "1.example", "a.1.b")} == {None}


def test_public_addresses_are_public():
    addresses = ("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "2606:4700::1111")
    assert all(is_public(ipaddress.ip_address(address)) for address in addresses)
