"""Extra headers are plain lines under names that the library does not reserve."""

from types import MappingProxyType

from lemon_async._api.extra_headers import find_header_faults

SECRET = "gw-canary-0123456789"


def test_headers_of_a_gateway_are_good():
    for headers in (
        {},
        {"X-Team": "a"},
        MappingProxyType({"x-team": "two words, and a comma"}),
        {"X-Gateway-Key": f"Bearer {SECRET}", "X-1!#$%&'*+-.^_`|~": "~!"},
        {"Proxy-Authorization": f"Bearer {SECRET}"},
        {"Accept-Language": "de", "X-Content-Type": "a", "X-Host": "b"},
    ):
        assert find_header_faults(headers) == []


OURS = "is set by the library"
CONNECTION = "belongs to the connection"


HEADER_OF_OURS_IS_ROWS = (
    ("Authorization", "carries the key, which is passed as api_key"),
    ("authorization", "carries the key, which is passed as api_key"),
    ("Content-Type", OURS),
    ("Content-Length", OURS),
    ("Content-Encoding", OURS),
    ("CONTENT-DISPOSITION", OURS),
    ("Accept", OURS),
    ("Accept-Encoding", OURS),
    ("User-Agent", OURS),
    ("Host", CONNECTION),
    ("Connection", CONNECTION),
    ("Proxy-Connection", CONNECTION),
    ("Keep-Alive", CONNECTION),
    ("Transfer-Encoding", CONNECTION),
    ("TE", CONNECTION),
    ("Trailer", CONNECTION),
    ("Upgrade", CONNECTION),
    ("Expect", CONNECTION),
    ("Cookie", "is never sent: a session has no cookies"),
    ("Cookie2", "is never sent: a session has no cookies"),
    ("Set-Cookie", "is never sent: a session has no cookies"),
    ("Range", "would change the meaning of a response"),
    ("If-None-Match", "would change the meaning of a response"),
    ("if-modified-since", "would change the meaning of a response"),
    ("Idempotency-Key", "would be the same for all requests, so that the service could take different ones for one"),
    ("X-Idempotency-Key", "would be the same for all requests, so that the service could take different ones for one"),
)


def test_reserved_header_is_refused_by_its_name():
    for name, reason in HEADER_OF_OURS_IS_ROWS:
        (fault,) = find_header_faults({name: SECRET})
        assert fault == f"{name} cannot be set: it {reason}"


NAME_THAT_NO_HEADER_ROWS = (
    "",
    " ",
    "X Team",
    "X-Team:",
    "X-Team\r\nX-Evil",
    "X-Team\n",
    "X-\0",
    "X-Té",
    "X(team)",
    ":authority",
    7,
    None,
    b"X",
)


def test_name_that_no_header_has_is_refused_without_being_quoted():
    """A secret may have been put in the wrong place."""
    for name in NAME_THAT_NO_HEADER_ROWS:
        assert find_header_faults({"X-Team": "a", name: SECRET}) == [
            "the name of entry 2 must be letters, digits and hyphens, such as X-Team"
        ]


def test_value_that_no_header_has_is_refused_without_being_quoted():
    for value in (
        "",
        " ",
        " a",
        "a ",
        "a\r\nX-Evil: 1",
        "a\n",
        "a\0",
        "a\t",
        "\x7f",
        "é",
        "猫",
        "\u2028",
        7,
        None,
        b"a",
        ["a"],
    ):
        is_hidden = value and isinstance(value, str) and value.strip() == value
        (fault,) = find_header_faults({"X-Key": f"{SECRET}{value}{SECRET}" if is_hidden else value})
        assert (
            fault == "the value of X-Key must be one line of printable ASCII text, not empty, without spaces around it"
        )


def test_every_fault_is_found():
    faults = find_header_faults({"Host": "a", "X-Key": "\n", "X Key": "a"})
    assert [fault.split()[0] for fault in faults] == ["Host", "the", "the"]


def test_same_name_in_two_cases_is_refused():
    assert find_header_faults({"X-Team": "a", "x-team": "b"}) == ["x-team is given twice"]


def test_anything_but_a_mapping_is_refused_without_being_quoted():
    for headers in ("X-Key: a", [("X-Key", "a")], {"X-Key"}, 7, b""):
        assert find_header_faults(headers) == ["must be a mapping of names to values, such as {'X-Team': 'pictures'}"]
