"""Addresses from callers and from the service are used only where they are safe, with the key and without it."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from lemon_async._api.urls import (
    DEFAULT_ORIGIN,
    find_link_fault,
    find_remote_fault,
    is_http_host,
    is_loopback,
    parse_base_url,
    parse_http_hosts,
    path_segment,
    poll_path,
    redact,
    resolve_poll_url,
    task_path,
)

steady = settings(derandomize=True, deadline=None)

ORIGIN = "https://api.lemondata.cc"
LOCAL = "http://127.0.0.1:8080"
SIX = "https://[2606:4700::1111]:8443"
PLACE = "must look like https://api.lemondata.cc"
GATEWAY = "https://gateway.example/lemon"
NO_PATH = "must have a plain path such as /lemon, or none"
NO_ENDPOINT = "must be the part before /v1: the path of each request is added to it"


def place(url):
    """Return where two parsers say a URL leads; they must agree."""
    parts, encoded, plain = urlsplit(url), URL(url, encoded=True), URL(url)
    by_urllib = (
        parts.scheme,
        parts.hostname,
        parts.port or {"http": 80, "https": 443}.get(parts.scheme),
        parts.username,
    )
    for other in (encoded, plain):
        assert (other.scheme, (other.raw_host or "").lower(), other.port, other.user) == by_urllib
    return by_urllib


def refusal(function, *args):
    with pytest.raises(ValueError) as caught:
        function(*args)
    return str(caught.value)


BASE_URL_IS_ORIGIN_ROWS = (
    ("https://api.lemondata.cc", ORIGIN),
    ("https://api.lemondata.cc/", ORIGIN),
    ("https://api.lemondata.cc/v1", ORIGIN),
    ("https://api.lemondata.cc/v1/", ORIGIN),
    ("https://api.lemondata.cc:443/v1", ORIGIN),
    ("https://api.lemondata.cc:/v1", ORIGIN),
    ("HTTPS://API.LemonData.CC", ORIGIN),
    ("https://proxy.example:8443", "https://proxy.example:8443"),
    ("https://my_proxy", "https://my_proxy"),
    ("https://[2606:4700::1111]:8443/v1", SIX),
    ("http://127.0.0.1:8080/v1", LOCAL),
    ("http://127.9.9.9", "http://127.9.9.9"),
    ("http://[::1]:80", "http://[::1]"),
    ("http://localhost:443", "http://localhost:443"),
    (DEFAULT_ORIGIN, DEFAULT_ORIGIN),
    ("https://gateway.example/lemon", GATEWAY),
    ("https://gateway.example/lemon/", GATEWAY),
    ("https://gateway.example/lemon//", GATEWAY),
    ("https://gateway.example/lemon/v1", GATEWAY),
    ("https://gateway.example/lemon/v1/", GATEWAY),
    ("HTTPS://Gateway.Example:443/lemon/v1/", GATEWAY),
    ("https://gateway.example/Lemon", "https://gateway.example/Lemon"),
    ("https://gateway.example/v2", "https://gateway.example/v2"),
    ("https://gateway.example/v10", "https://gateway.example/v10"),
    ("https://gateway.example/v1/account/lemon", "https://gateway.example/v1/account/lemon"),
    ("https://gateway.example/v1/images-of-lemon", "https://gateway.example/v1/images-of-lemon"),
    ("https://gateway.example/a/b.c/d@e:f,g;h=~1-2_3", "https://gateway.example/a/b.c/d@e:f,g;h=~1-2_3"),
    ("http://127.0.0.1:8080/lemon/v1", "http://127.0.0.1:8080/lemon"),
    ("https://[2606:4700::1111]:8443/lemon", f"{SIX}/lemon"),
)


def test_base_url_is_origin_and_path_without_a_trailing_slash_or_v1():
    for value, origin in BASE_URL_IS_ORIGIN_ROWS:
        assert parse_base_url(value) == origin


BASE_URL_THAT_CANNOT_ROWS = (
    ("", PLACE),
    ("api.lemondata.cc", PLACE),
    ("//api.lemondata.cc", PLACE),
    ("https:api.lemondata.cc", PLACE),
    ("https:/api.lemondata.cc", PLACE),
    ("https:///v1", PLACE),
    ("https://", PLACE),
    ("https://:443", PLACE),
    ("ftp://api.lemondata.cc", PLACE),
    ("file:///etc/passwd", PLACE),
    (" https://api.lemondata.cc", PLACE),
    ("https://api.lemondata.cc\n", PLACE),
    ("https://api.lemon\tdata.cc", PLACE),
    ("https://api.lemondata.cc\\@evil.example", PLACE),
    ("https://äpi.lemondata.cc", PLACE),
    ("https://api.lemondata.cc:port", PLACE),
    ("https://api.lemondata.cc:65536", PLACE),
    ("https://[::1", PLACE),
    ("https://[::1]x", PLACE),
    ("https://[2606:4700::1111%25eth0]", PLACE),
    ("https://api%2elemondata.cc", PLACE),
    ("https://{host}", PLACE),
    ("https://me:secret@api.lemondata.cc", "must not hold credentials; pass the key as api_key"),
    ("https://api.lemondata.cc?key=1", "must not have a query or a fragment"),
    ("https://api.lemondata.cc/v1?", "must not have a query or a fragment"),
    ("https://api.lemondata.cc/v1#", "must not have a query or a fragment"),
    ("https://gateway.example/lemon?", "must not have a query or a fragment"),
    ("https://me@gateway.example/lemon", "must not hold credentials; pass the key as api_key"),
    ("https://api.lemondata.cc/v1/images", NO_ENDPOINT),
    ("https://api.lemondata.cc/v1/images/generations", NO_ENDPOINT),
    ("https://gateway.example/lemon/v1/tasks/", NO_ENDPOINT),
    ("https://gateway.example/v1/files/v1", NO_ENDPOINT),
    ("https://gateway.example/v1/models", NO_ENDPOINT),
    ("https://gateway.example/v1/v1", NO_ENDPOINT),
    ("https://gateway.example/v1//v1", NO_ENDPOINT),
    ("https://gateway.example//lemon", NO_PATH),
    ("https://gateway.example/lemon//v2", NO_PATH),
    ("https://gateway.example/.", NO_PATH),
    ("https://gateway.example/lemon/..", NO_PATH),
    ("https://gateway.example/lemon/../admin", NO_PATH),
    ("https://gateway.example/lemon/..;/admin", NO_PATH),
    ("https://gateway.example/lemon/%2e%2e/admin", NO_PATH),
    ("https://gateway.example/lemon%2fadmin", NO_PATH),
    ("https://gateway.example/team%20a", NO_PATH),
    ("https://gateway.example/{team}", NO_PATH),
)


def test_base_url_that_cannot_work_is_refused_with_advice():
    for value, advice in BASE_URL_THAT_CANNOT_ROWS:
        assert refusal(parse_base_url, value) == advice


def test_base_url_with_plain_http_is_refused_with_the_option_that_permits_it():
    for value, host in (
        ("http://api.lemondata.cc", "api.lemondata.cc"),
        ("http://localhost.evil.example", "localhost.evil.example"),
        ("http://127.1", "127.1"),
        ("http://0.0.0.0", "0.0.0.0"),
        ("http://192.168.0.1", "192.168.0.1"),
        ("http://Emulator:8000/lemon", "emulator"),
        ("http://[fd00::5]:8000", "[fd00::5]"),
    ):
        option = f"allow_http={{{host!r}}}"
        words = (
            "must use https, or the key could be read in transit; plain http is for loopback, and for hosts that are"
        )
        assert refusal(parse_base_url, value) == f"{words} named: {option}"


def test_base_url_with_plain_http_leads_to_a_host_that_is_named():
    for named, value, base_url in (
        ({"emulator"}, "http://emulator:8000/v1", "http://emulator:8000"),
        ({"emulator:8000"}, "http://emulator:8000", "http://emulator:8000"),
        ({"emulator:80"}, "http://emulator", "http://emulator"),
        ({"EMULATOR"}, "http://Emulator", "http://emulator"),
        ({"other", "10.0.0.5"}, "http://10.0.0.5:8000/lemon", "http://10.0.0.5:8000/lemon"),
        ({"[fd00::5]:8000"}, "http://[fd00::5]:8000", "http://[fd00::5]:8000"),
        ({"emulator"}, "https://emulator:8000", "https://emulator:8000"),
        ({"emulator"}, "http://127.0.0.1", "http://127.0.0.1"),
    ):
        assert parse_base_url(value, parse_http_hosts(named)) == base_url


def test_base_url_with_plain_http_leads_to_no_host_that_is_only_like_a_named_one():
    for named, value in (
        ({"emulator:8000"}, "http://emulator:8001"),
        ({"emulator:8000"}, "http://emulator"),
        ({"emulator"}, "http://emulator.evil.example"),
        ({"emulator"}, "http://evil-emulator"),
        ({"emulator"}, "http://emulator."),
        ({"10.0.0.5"}, "http://10.0.0.50"),
    ):
        assert "must use https" in refusal(parse_base_url, value, parse_http_hosts(named))


@pytest.mark.parametrize(
    ("named", "hosts"),
    [
        (set(), set()),
        (frozenset({"Emulator"}), {"emulator"}),
        ({"emulator:": 1}.keys(), {"emulator"}),
        ({"emulator:08000", "10.0.0.5", "[FD00::5]:80"}, {"emulator:8000", "10.0.0.5", "[fd00::5]:80"}),
    ],
)
def test_hosts_for_plain_http_are_named_one_by_one(named, hosts):
    assert parse_http_hosts(named) == hosts


def test_hosts_for_plain_http_are_a_set():
    """Text is a common mistake: its letters would be the hosts."""
    for named in ("emulator", ["emulator"], ("emulator",), {"emulator": True}, None, True, b"x"):
        with pytest.raises(TypeError) as caught:
            parse_http_hosts(named)
        assert str(caught.value) == f"must be a set of hosts such as {{'emulator'}}, not {named!r}"


HOST_FOR_PLAIN_HTTP_ROWS = (
    *("", "*", "*.example", "http://emulator", "emulator/", "emulator:port", "emulator:65536", "emulator:-1"),
    *(
        "me@emulator",
        "emulator\n",
        " emulator",
        "emu lator",
        "fd00::5",
        "[fd00::5",
        "emulator#",
        "\u00e4",
        7,
        None,
        b"emulator",
    ),
)


def test_host_for_plain_http_that_is_none_is_refused():
    for entry in HOST_FOR_PLAIN_HTTP_ROWS:
        message = f"{entry!r} is not a host, or a host and port, such as 'emulator:8000'"
        assert refusal(parse_http_hosts, {entry}) == message


def test_host_is_named_with_all_its_ports_or_one():
    for host, port, expected in (
        ("emulator", 8000, True),
        ("EMULATOR", 8000, True),
        ("minio", 9000, True),
        ("minio", 9001, False),
        ("fd00::5", 80, True),
        ("fd00::5", 81, False),
        ("other", 8000, False),
    ):
        assert is_http_host(host, port, frozenset({"emulator", "minio:9000", "[fd00::5]:80"})) is expected


host_like = st.text("ab.-_:@/\\[]%?#0159xé \t\n{}", max_size=12)


path_like = st.sampled_from(["", "/v1", "/", "/lemon", "/lemon/v1/"]) | st.text("ab./%2ef;v1\\@:?# ", max_size=12)


@steady
@given(st.sampled_from(["https://", "http://", "https:/", "HTTPS://", ""]), host_like, path_like)
@example("http://", "[::1]", "")
def test_base_url_that_is_accepted_means_one_place_to_all_parsers(scheme, host, path):
    try:
        base_url = parse_base_url(scheme + host + path)
    except ValueError:
        return
    assert parse_base_url(base_url) == base_url
    assert place(base_url)[3] is None
    assert place(base_url) == place(scheme + host + path)
    assert resolve_poll_url(base_url, f"{base_url}/v1/tasks/1") == "/v1/tasks/1"
    assert URL(f"{base_url}/v1").raw_path == URL(f"{base_url}/v1", encoded=True).raw_path


POLL_URL_IS_CALLED_ROWS = (
    (ORIGIN, "/v1/tasks/ldtask_1", "/v1/tasks/ldtask_1"),
    (ORIGIN, "/v1/images/generations/ldtask_1", "/v1/images/generations/ldtask_1"),
    (ORIGIN, "/v1/tasks/1?token=a%2Fb&c=d?e/f", "/v1/tasks/1?token=a%2Fb&c=d?e/f"),
    (ORIGIN, "/v1/tasks/1?", "/v1/tasks/1?"),
    (ORIGIN, "/v1/tasks/a:b@c;d=e,f(g)!$&'*+~", "/v1/tasks/a:b@c;d=e,f(g)!$&'*+~"),
    (ORIGIN, "/v1/tasks/a..b/...", "/v1/tasks/a..b/..."),
    (ORIGIN, "/v1//tasks/1/", "/v1//tasks/1/"),
    (ORIGIN, "/v1/tasks/%C3%A9%20", "/v1/tasks/%C3%A9%20"),
    (ORIGIN, "https://api.lemondata.cc/v1/tasks/1?a=/b", "/v1/tasks/1?a=/b"),
    (ORIGIN, "HTTPS://API.LEMONDATA.CC:443/v1/tasks/1", "/v1/tasks/1"),
    (ORIGIN, "https://api.lemondata.cc:/v1/tasks/1", "/v1/tasks/1"),
    (LOCAL, "/v1/tasks/1", "/v1/tasks/1"),
    (LOCAL, "http://127.0.0.1:8080/v1/tasks/1", "/v1/tasks/1"),
    (SIX, "https://[2606:4700::1111]:8443/v1/tasks/1", "/v1/tasks/1"),
)


def test_poll_url_is_called_exactly_as_sent():
    """The page "Get image status" asks for "calling that exact URL", which is relative to the origin."""
    for origin, poll_url, path in POLL_URL_IS_CALLED_ROWS:
        assert resolve_poll_url(origin, poll_url) == path


def test_poll_url_behind_a_gateway_is_called_below_its_path():
    """A poll_url that holds the path of the base URL is called exactly; one of the service behind it gets that path."""
    for poll_url, path in (
        ("/lemon/v1/tasks/1", "/v1/tasks/1"),
        ("/lemon/v1/tasks/1?a=/b", "/v1/tasks/1?a=/b"),
        ("/lemon/status/1", "/status/1"),
        ("https://gateway.example/lemon/v1/tasks/1", "/v1/tasks/1"),
        ("https://gateway.example:443/lemon/v1/tasks/1", "/v1/tasks/1"),
        ("/v1/tasks/1", "/v1/tasks/1"),
        ("https://gateway.example/v1/tasks/1", "/v1/tasks/1"),
        ("/v1/tasks/lemon/1", "/v1/tasks/lemon/1"),
        ("/lemonade/v1/tasks/1", "/lemonade/v1/tasks/1"),
        ("/Lemon/v1/tasks/1", "/Lemon/v1/tasks/1"),
        ("/lemon?task=1", "/lemon?task=1"),
    ):
        assert resolve_poll_url(GATEWAY, poll_url) == path


ELSEWHERE = "it leaves the API's origin"
NOT_PLAIN = "it is not a plain path"
HOSTILE_POLL_URLS = [
    ("//evil.example/v1/tasks/1", NOT_PLAIN),
    ("///evil.example", NOT_PLAIN),
    ("/\\evil.example", NOT_PLAIN),
    ("\\\\evil.example", ELSEWHERE),
    ("/v1\\@evil.example", NOT_PLAIN),
    ("https://api.lemondata.cc@evil.example/v1/tasks/1", ELSEWHERE),
    ("https://me@api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("https://@api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("https://api.lemondata.cc.evil.example/v1/tasks/1", ELSEWHERE),
    ("https://api.lemondata.cc./v1/tasks/1", ELSEWHERE),
    ("https://api.lemondata.cc%2eevil.example/v1/tasks/1", ELSEWHERE),
    ("https://evil.example/v1/tasks/1", ELSEWHERE),
    ("https://evil.example#@api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("https://evil.example?@api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("https://evil.example\\@api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("https://api.lemondata.cc:444/v1/tasks/1", ELSEWHERE),
    ("https://api.lemondata.cc:80/v1/tasks/1", ELSEWHERE),
    ("https://api.lemondata.cc:0/v1/tasks/1", ELSEWHERE),
    ("https://api.lemondata.cc:x/v1/tasks/1", ELSEWHERE),
    ("http://api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("http://api.lemondata.cc:443/v1/tasks/1", ELSEWHERE),
    ("ws://api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("javascript:alert(1)", ELSEWHERE),
    ("https:/api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("https:api.lemondata.cc/v1/tasks/1", ELSEWHERE),
    ("https:///v1/tasks/1", ELSEWHERE),
    ("v1/tasks/1", ELSEWHERE),
    ("?task=1", ELSEWHERE),
    ("", ELSEWHERE),
    ("https://api.lemondata.cc", NOT_PLAIN),
    ("https://api.lemondata.cc/", NOT_PLAIN),
    ("https://api.lemondata.cc?next=/v1/tasks/1", NOT_PLAIN),
    ("https://api.lemondata.cc#/v1/tasks/1", NOT_PLAIN),
    ("https://api.lemondata.cc//evil.example/v1", NOT_PLAIN),
    ("/", NOT_PLAIN),
    ("/v1/tasks/1#fragment", NOT_PLAIN),
    ("/v1/tasks/../../admin", NOT_PLAIN),
    ("/v1/tasks/..", NOT_PLAIN),
    ("/./v1", NOT_PLAIN),
    ("/v1/tasks/..%2fadmin", NOT_PLAIN),
    ("/v1/tasks/..%2Fadmin", NOT_PLAIN),
    ("/v1/tasks/%2e%2e/admin", NOT_PLAIN),
    ("/v1/tasks/.%2E/admin", NOT_PLAIN),
    ("/v1/tasks/%252e%252e%252fadmin", NOT_PLAIN),
    ("/v1/tasks/%2e%2e%5cadmin", NOT_PLAIN),
    ("/v1/tasks/%255c..%255c", NOT_PLAIN),
    ("https://api.lemondata.cc/v1/../admin", NOT_PLAIN),
    ("/v1/tasks/1\r\nX-Evil: 1", NOT_PLAIN),
    ("/v1/tasks/1\n", NOT_PLAIN),
    ("/v1/tasks/%0d%0aX-Evil:1", NOT_PLAIN),
    ("/v1/tasks/%250d%250a", NOT_PLAIN),
    ("/v1/tasks/1\0", NOT_PLAIN),
    ("/v1/tasks/%00", NOT_PLAIN),
    ("/v1/tasks/1\t", NOT_PLAIN),
    ("\t/v1/tasks/1", ELSEWHERE),
    (" /v1/tasks/1", ELSEWHERE),
    ("/v1/tasks/ 1", NOT_PLAIN),
    ("/v1/tasks/猫", NOT_PLAIN),
    ("/v1/tasks/\uff0e\uff0e/x", NOT_PLAIN),
    ("https://api.lemondata\u3002cc/v1/tasks/1", ELSEWHERE),
    ("/v1/tasks/%E2%80%AE", NOT_PLAIN),
    ('/v1/tasks/"><script>', NOT_PLAIN),
    ("/v1/tasks/[1]", NOT_PLAIN),
    ("/v1/tasks/{id}", NOT_PLAIN),
    ("/v1/tasks/..;/admin", NOT_PLAIN),
    ("/v1/tasks/..;a=b", NOT_PLAIN),
    ("/v1/tasks/%2e%2e%3b/admin", NOT_PLAIN),
    ("/v1/tasks/%25252e%25252e/admin", NOT_PLAIN),
]


def test_poll_url_that_could_lead_elsewhere_is_refused():
    for poll_url, words in HOSTILE_POLL_URLS:
        assert refusal(resolve_poll_url, ORIGIN, poll_url) == words


def test_poll_url_that_could_lead_elsewhere_is_refused_behind_a_gateway():
    for poll_url, words in HOSTILE_POLL_URLS:
        assert refusal(resolve_poll_url, f"{ORIGIN}/lemon", poll_url) == words


POLL_URL_LEADS_TO_ROWS = (
    ("/lemon/../admin", NOT_PLAIN),
    ("/lemon/..", NOT_PLAIN),
    ("/lemon/v1/../../admin", NOT_PLAIN),
    ("/lemon/%2e%2e/admin", NOT_PLAIN),
    ("/lemon/%2E%2E%2Fadmin", NOT_PLAIN),
    ("/lemon/..%2fadmin", NOT_PLAIN),
    ("/lemon/..%5cadmin", NOT_PLAIN),
    ("/lemon/%252e%252e%252fadmin", NOT_PLAIN),
    ("/lemon/..;/admin", NOT_PLAIN),
    ("/lemon%2f..%2fadmin", NOT_PLAIN),
    ("/../lemon/v1/tasks/1", NOT_PLAIN),
    ("/lemon//evil.example/v1/tasks/1", NOT_PLAIN),
    ("/lemon/\\evil.example", NOT_PLAIN),
    ("/lemon/", NOT_PLAIN),
    ("/lemon/v1/tasks/1\r\nX: 1", NOT_PLAIN),
    ("//gateway.example/lemon/v1/tasks/1", NOT_PLAIN),
    ("https://gateway.example/lemon/../admin", NOT_PLAIN),
    ("https://gateway.example/lemon", "/lemon"),
    ("https://gateway.example/lemon@evil.example", "/lemon@evil.example"),
    ("https://gateway.example.evil.example/lemon/v1/tasks/1", ELSEWHERE),
    ("https://gateway.example@evil.example/lemon/v1/tasks/1", ELSEWHERE),
    ("https://evil.example/lemon/v1/tasks/1", ELSEWHERE),
    ("http://gateway.example/lemon/v1/tasks/1", ELSEWHERE),
    ("https://gateway.example:8443/lemon/v1/tasks/1", ELSEWHERE),
    ("https://api.lemondata.cc/v1/tasks/1", ELSEWHERE),
)


def test_poll_url_leads_to_nothing_outside_the_path_of_a_gateway():
    """It is refused, or used below the path: other services of the gateway must not get the key."""
    for poll_url, words in POLL_URL_LEADS_TO_ROWS:
        if words.startswith("/"):
            assert resolve_poll_url(GATEWAY, poll_url) == words
        else:
            assert refusal(resolve_poll_url, GATEWAY, poll_url) == words


PIECES = (
    "/ // \\ . .. %2e %2E%2e %2f %5c %252f %25 %00 %0d%0a % @ : ? # [ ] [::1] ; & = a é v1 tasks "
    "https: https:// http:// api.lemondata.cc 127.0.0.1 :8080 :443 evil.example"
)
url_like = st.lists(st.sampled_from([*PIECES.split(), " ", "\t", "\r\n"]), max_size=9).map("".join)
prefixes = st.sampled_from(["", "/v1/tasks/", f"{ORIGIN}/v1/", ORIGIN, f"{LOCAL}/v1/", LOCAL])


@steady
@given(
    st.sampled_from([ORIGIN, LOCAL, SIX, f"{ORIGIN}/lemon", f"{LOCAL}/a/b"]),
    prefixes | st.sampled_from(["/lemon/", f"{ORIGIN}/lemon/", f"{LOCAL}/a/b/"]),
    url_like | st.text(max_size=20),
)
def test_poll_url_that_is_accepted_leads_to_the_base_url_for_all_parsers(origin, prefix, rest):
    try:
        path = resolve_poll_url(origin, prefix + rest)
    except ValueError:
        return
    assert URL(origin + path).raw_path.startswith(URL(origin).raw_path)
    assert path.startswith("/")
    assert not path.startswith("//")
    assert path.isascii()
    assert path.isprintable()
    assert place(origin + path) == place(origin)
    assert path.startswith(("/lemon/", "/a/b/")) or resolve_poll_url(origin, path) == path
    assert URL(origin + path, encoded=True).raw_path_qs == urlsplit(origin).path + path.removesuffix("?")
    assert ".." not in unquote(urlsplit(origin + path).path).split("/")


def test_task_path_holds_the_id_as_one_segment():
    for task_id, path in (
        ("ldtask_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "/v1/tasks/ldtask_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("a/b", "/v1/tasks/a%2Fb"),
        ("a?b#c", "/v1/tasks/a%3Fb%23c"),
        ("a%20b", "/v1/tasks/a%2520b"),
        ("//evil.example", "/v1/tasks/%2F%2Fevil.example"),
        ("@evil:80", "/v1/tasks/%40evil%3A80"),
        ("a..b", "/v1/tasks/a..b"),
        ("x" * 512, "/v1/tasks/" + "x" * 512),
    ):
        assert task_path(task_id) == path


def test_task_path_of_no_id_is_refused():
    for task_id in (
        *("", " ", "a b", "a\r\nb", "a\0b", "a\tb", "猫", "a\\b", "x" * 513),
        *("..", ".", "../x", "a/../b", "..%2fx", "%2e%2e", "%252e%252e/x", "?/../..", "a?/..", "%00", "%0d%0a"),
        *("..;x", "..%3bx", "%25252e%25252e"),
    ):
        assert refusal(task_path, task_id) == "a task id is one word of printable ASCII, like ldtask_0123abcd"


@steady
@given(url_like | st.text(max_size=20) | st.text("./%?2ef5c#", max_size=8))
def test_task_path_that_is_accepted_is_one_plain_segment(task_id):
    try:
        path = task_path(task_id)
    except ValueError:
        return
    assert resolve_poll_url(ORIGIN, path) == path
    assert place(ORIGIN + path) == place(ORIGIN)
    assert path.count("/") == 3
    assert unquote(path.rpartition("/")[2]) == task_id


@pytest.mark.parametrize(
    ("word", "segment"), [("file-abc123", "file-abc123"), ("a/b", "a%2Fb"), ("x" * 512, "x" * 512)]
)
def test_one_segment_is_an_id_quoted(word, segment):
    assert path_segment(word) == segment


def test_path_segment_of_no_id_is_refused():
    """Ids of files and models come from users."""
    for word in ("", " ", "a b", "a\r\nb", "猫", "a\\b", "x" * 513, "..", ".", "../x", "..%2fx", "%00"):
        assert refusal(path_segment, word) == "it is not one word of printable ASCII"


def test_poll_path_prefers_the_address_and_falls_back_to_the_id():
    for task_id, poll_url, expected in (
        ("1", "/v1/images/generations/1", ("/v1/images/generations/1", None)),
        (None, "/v1/images/generations/1", ("/v1/images/generations/1", None)),
        ("..", "/v1/images/generations/1", ("/v1/images/generations/1", None)),
        ("1", None, ("/v1/tasks/1", None)),
        ("1", "", ("/v1/tasks/1", None)),
        ("1", "https://evil.example/v1/tasks/1", ("/v1/tasks/1", ELSEWHERE)),
        ("1", "/v1/tasks/../admin", ("/v1/tasks/1", NOT_PLAIN)),
    ):
        assert poll_path(ORIGIN, task_id, poll_url) == expected


def test_poll_path_without_anything_to_poll_is_refused():
    for task_id, poll_url in ((None, None), ("", ""), (None, "//evil"), ("..", "//evil"), ("..", None)):
        with pytest.raises(ValueError, match="a task id is one word"):
            poll_path(ORIGIN, task_id, poll_url)


def test_link_to_a_public_host_is_followed():
    for allow_loopback in (True, False):
        for url in (
            "https://cdn.example/1.png",
            "https://cdn.example:8443/1.png?Expires=1&Signature=a~b_c-d",
            "HTTPS://CDN.example/a//b",
            "https://my_bucket.s3.amazonaws.com/1.png",
            "https://8.8.8.8/1.png",
            "https://[2606:4700::1111]/1.png",
            "https://xn--bcher-kva.example/1.png",
            "https://127.0.0.1.example/1.png",
            "https://localhost.example/1.png",
            "https://cdn.example./1.png",
        ):
            assert find_link_fault(url, allow_loopback=allow_loopback) is None


NO_ADDRESS = "it is not a plain https address"


LINK_THAT_IS_NO_ROWS = (
    ("", NO_ADDRESS),
    ("cdn.example/1.png", NO_ADDRESS),
    ("//cdn.example/1.png", "it does not use https"),
    ("/1.png", NO_ADDRESS),
    ("https:///1.png", NO_ADDRESS),
    ("https:cdn.example", NO_ADDRESS),
    ("https://me:secret@cdn.example/1.png", NO_ADDRESS),
    ("https://@cdn.example/1.png", NO_ADDRESS),
    ("https://cdn.example\\@127.0.0.1/", NO_ADDRESS),
    ("https://cdn.example/1.png\r\nX: 1", NO_ADDRESS),
    ("https://cdn.example/猫.png", NO_ADDRESS),
    ("https://cdn。example/1.png", NO_ADDRESS),
    ("https://cdn.example:99999/1.png", NO_ADDRESS),
    ("https://[::1/1.png", NO_ADDRESS),
    ("https://[2606:4700::1111]cdn.example/1.png", NO_ADDRESS),
    ("https://localhos%74/1.png", NO_ADDRESS),
    ("https://127.0.0.%31/1.png", NO_ADDRESS),
    ("https://[2606:4700::1111%25eth0]/1.png", NO_ADDRESS),
    ("http://cdn.example/1.png", "it does not use https"),
    ("http://127.0.0.1/1.png", "it does not use https"),
    ("ftp://cdn.example/1.png", "it does not use https"),
    ("file://localhost/etc/passwd", "it does not use https"),
    ("data://cdn.example/png", "it does not use https"),
)


def test_link_that_is_no_plain_https_address_is_refused():
    for url, words in LINK_THAT_IS_NO_ROWS:
        assert find_link_fault(url, allow_loopback=False) == words


PRIVATE_HOSTS = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "api.localhost",
    "api.localhost.",
    "printer.local",
    "printer.local.",
    "metadata.google.internal",
    "metadata.google.internal.",
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "0x7f.1",
    "0x7F000001",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "2130706433",
    "3232235521",
    "1.2.3.4.5",
    "256.256.256.256",
    "0",
    "0x",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.1",
    "100.64.0.1",
    "100.127.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.254",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a00:1::1]",
    "[2001::1]",
    "[2001:0:7f00:1::80ff:fffe]",
    "[2001:db8::1]",
    "[100::1]",
    "[fc00::1]",
    "[fd12:3456:789a::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[4000::1]",
]


def test_link_into_a_private_network_is_refused_in_every_spelling():
    for port in ("", ":8443"):
        for host in PRIVATE_HOSTS:
            assert (
                find_link_fault(f"https://{host}{port}/1.png", allow_loopback=False)
                == "it points into a private network"
            )


def test_link_of_an_api_on_this_machine_may_lead_to_this_machine_only():
    for host in [host for host in PRIVATE_HOSTS if not is_loopback(host.lower().strip("[]"))]:
        assert find_link_fault(f"https://{host}/1.png", allow_loopback=True) == "it points into a private network"
        assert find_link_fault(f"http://{host}/1.png", allow_loopback=True) == "it does not use https"


def test_link_to_loopback_needs_an_api_on_loopback():
    for url, words in (
        ("http://127.0.0.1:8080/cdn/1.png", None),
        ("https://127.0.0.1/cdn/1.png", None),
        ("http://localhost/cdn/1.png", None),
        ("http://[::1]:8080/cdn/1.png", None),
        ("ftp://127.0.0.1/cdn/1.png", "it is not a web address"),
        ("http://me@127.0.0.1/cdn/1.png", NO_ADDRESS),
        ("http://cdn.example/1.png", "it does not use https"),
        ("http://127.1/cdn/1.png", "it does not use https"),
    ):
        assert find_link_fault(url, allow_loopback=True) == words


NAMED = frozenset({"emulator", "minio:9000", "10.0.0.5", "[fd00::5]:8000"})


LINK_WITH_PLAIN_HTTP_ROWS = (
    ("http://emulator:8000/cdn/1.png", None),
    ("http://EMULATOR/cdn/1.png", None),
    ("https://emulator/cdn/1.png", None),
    ("http://minio:9000/1.png", None),
    ("http://10.0.0.5/1.png", None),
    ("http://[fd00::5]:8000/1.png", None),
    ("https://cdn.example/1.png", None),
    ("http://minio:9001/1.png", "it does not use https"),
    ("http://minio/1.png", "it does not use https"),
    ("https://minio/1.png", "it points into a private network"),
    ("http://10.0.0.6/1.png", "it does not use https"),
    ("http://cdn.example/1.png", "it does not use https"),
    ("http://emulator.evil.example/1.png", "it does not use https"),
    ("http://localhost/1.png", "it does not use https"),
    ("http://127.0.0.1:8000/1.png", "it does not use https"),
    ("http://me@emulator/1.png", NO_ADDRESS),
    ("ftp://emulator/1.png", "it is not a web address"),
)


def test_link_with_plain_http_leads_to_a_host_that_is_named():
    for url, words in LINK_WITH_PLAIN_HTTP_ROWS:
        assert find_link_fault(url, allow_loopback=False, http_hosts=NAMED) == words


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://gateway/1.png", None),
        ("https://Gateway:8443/1.png", None),
        ("http://gateway/1.png", "it does not use https"),
        ("https://gateway2/1.png", "it points into a private network"),
    ],
)
def test_link_to_the_host_of_the_api_may_lead_into_a_private_network(url, words):
    assert find_link_fault(url, allow_loopback=False, own_host="gateway") == words


hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
    st.sampled_from(PRIVATE_HOSTS),
    host_like,
)


@steady
@given(st.sampled_from(["https://", "http://", "https:", "//"]), hosts, url_like, st.booleans())
def test_link_that_is_followed_means_one_place_to_all_parsers(scheme, host, rest, allow_loopback):
    url = f"{scheme}{host}/{rest}"
    if find_link_fault(url, allow_loopback=allow_loopback) is None:
        kind, name, _, user = place(url)
        assert user is None
        assert kind == "https" or (allow_loopback and is_loopback(name))


@steady
@given(st.sampled_from(["https://", "http://", "ftp://", "https:", "//"]), hosts, url_like | st.text(max_size=20))
def test_remote_picture_means_one_place_to_all_parsers(scheme, host, rest):
    """A gateway has its own parser: a URL that two parsers read differently is not sent."""
    url = f"{scheme}{host}/{rest}"
    fault = find_remote_fault(url)
    if fault is None:
        kind, name, _, user = place(url)
        assert kind in {"https", "http"}
        assert user is None
        assert not is_loopback(name)
        assert "#" not in url
    else:
        assert fault.isprintable()


def test_remote_picture_has_a_public_address_without_credentials_and_fragment():
    for url, beginning in (
        ("http://cdn.example:8080/1.png?a=@", None),
        ("/1.png", "is not a plain web address"),
        ("ftp://cdn.example/1.png", "is not an http or https address"),
        ("https://me:secret@cdn.example/1.png", "holds credentials"),
        ("https://cdn.example/1.png#", "has a fragment"),
        ("https://me@localhost/1.png#", "holds credentials"),
    ):
        fault = find_remote_fault(url)
        assert fault == beginning or fault.startswith(beginning)


def test_remote_picture_in_a_private_network_is_refused_as_a_link_there_is():
    for host in PRIVATE_HOSTS:
        words = "points into a private network, where the service does not fetch: upload the picture instead"
        assert find_remote_fault(f"http://{host}/1.png") == words


LOOPBACK_IS_THIS_MACHINE_ROWS = (
    ("localhost", True),
    ("127.0.0.1", True),
    ("127.255.0.3", True),
    ("::1", True),
    ("0.0.0.0", False),
    ("192.168.0.1", False),
    ("::", False),
    ("fe80::1", False),
    ("127.1", False),
    ("localhost.", False),
    ("api.localhost", False),
    ("", False),
    ("[::1]", False),
)


def test_loopback_is_this_machine_by_its_literal_address_or_its_one_name():
    for host, is_ours in LOOPBACK_IS_THIS_MACHINE_ROWS:
        assert is_loopback(host) is is_ours


REDACTED_ADDRESS_IS_FIT_ROWS = (
    ("https://cdn.example/a/1.png", "https://cdn.example/a/1.png"),
    ("https://cdn.example/1.png?Signature=secret#part", "https://cdn.example/1.png"),
    ("https://cdn.example/1.png#part?x", "https://cdn.example/1.png"),
    ("https://me:secret@cdn.example/1.png", "https://cdn.example/1.png"),
    ("https://me@secret@cdn.example/1.png", "https://cdn.example/1.png"),
    ("https://me:sec/ret@cdn.example/1.png", "https://?"),
    ("https://me:sec?ret@cdn.example/1.png", "https://?"),
    ("https://me:sec#ret@cdn.example/1.png", "https://?"),
    ("https://cdn.example:8443/1.png", "https://cdn.example:8443/1.png"),
    ("https://[::1]:8443/a:b", "https://[::1]:8443/a:b"),
    ("https://cdn.example/a:b@c", "https://cdn.example/a:b@c"),
    ("https://cdn.example/\x1b[2J\r\n猫", "https://cdn.example/?[2J???"),
    ("", ""),
    ("https://cdn.example/" + "a" * 500, "https://cdn.example/" + "a" * 180),
)


def test_redacted_address_is_fit_for_a_message():
    for url, words in REDACTED_ADDRESS_IS_FIT_ROWS:
        assert redact(url) == words


@steady
@given(url_like | st.text(max_size=300))
def test_redacted_address_is_short_printable_ascii_without_query(url):
    words = redact(f"https://me:secret@cdn.example/{url}")
    assert words.startswith("https://cdn.example/")
    assert len(words) <= 200
    assert words.isascii()
    assert words.isprintable()
    assert "#" not in words
