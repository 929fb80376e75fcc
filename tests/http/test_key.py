"""The key goes over the wire and nowhere else."""

import copy
import pickle
import traceback

import pytest

from lemon_async._http.key import KEY_VARIABLE, ApiKey

CANARY = "sk-canary-0123456789"


def local_variables_of(error):
    """Return a traceback as tools print it that show every local variable of every frame."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def test_key_is_shown_as_a_mask():
    for show in [repr, str, "{}".format, "{!r:>40}".format, lambda key: f"{[key]}"]:
        assert CANARY not in show(ApiKey(CANARY))
        assert "ApiKey('***')" in show(ApiKey(CANARY))


def test_header_carries_the_key_and_shows_a_mask():
    """The wire gets the text; whoever prints the headers gets a mask."""
    headers = ApiKey(CANARY).headers()
    assert headers["Authorization"].encode() == b"Bearer " + CANARY.encode()
    assert repr(headers) == "{'Authorization': '***'}"


def test_key_is_neither_pickled_nor_copied():
    for duplicate in [pickle.dumps, copy.deepcopy]:
        with pytest.raises(TypeError, match="cannot be pickled; create the session in the process that uses it"):
            duplicate(ApiKey(CANARY))


def test_traceback_with_local_variables_shows_no_key():
    """A crash report prints objects by their repr; the key's is a mask, and so is the header's."""

    def work(key):
        headers = key.headers()
        header = headers["Authorization"]
        return header / 2

    with pytest.raises(TypeError) as caught:
        work(ApiKey(CANARY))
    shown = local_variables_of(caught.value.with_traceback(caught.tb.tb_next))
    assert "header = '***'" in shown
    assert CANARY not in shown


def test_key_comes_from_the_environment():
    assert ApiKey.from_environment({KEY_VARIABLE: CANARY}).headers() == {"Authorization": f"Bearer {CANARY}"}


def test_key_of_the_process_environment_is_read_when_asked(monkeypatch):
    """A key that is set after the import counts."""
    monkeypatch.setenv(KEY_VARIABLE, CANARY)
    assert ApiKey.from_environment().headers()["Authorization"].endswith(CANARY)


def test_missing_key_is_told_where_to_come_from():
    for environment in [{}, {KEY_VARIABLE: ""}]:
        (problem,) = ApiKey.from_environment(environment).problems()
        assert str(problem) == f"api_key: is missing: pass api_key=, or set the environment variable {KEY_VARIABLE}"


def test_key_that_json_would_escape_is_refused():
    """It could not be found, and masked, in the text of an answer."""
    for value in ['sk-"quoted"', "sk-back\\slash"]:
        (problem,) = ApiKey(value).problems()
        assert str(problem) == "api_key: contains a quotation mark or a backslash, which no key has"


def test_key_that_is_no_text_is_refused():
    for value in [None, 5, b"sk-bytes", ["sk-list"]]:
        (problem,) = ApiKey(value).problems()
        assert str(problem) == "api_key: must be a string"


def test_key_with_a_character_that_no_key_has_is_refused_without_being_quoted():
    """Header injection ends here, and the message may be printed anywhere."""
    for spoiled in ["sk x", " sk", "sk\n", "sk\r\nX-Evil: 1", "sk\0", "sk\t", "sk\x7f", "skä", "\u202e"]:
        (problem,) = ApiKey(spoiled + CANARY).problems()
        assert "contains a character that no key has" in problem.message
        assert CANARY not in str(problem)


def test_key_that_a_server_quotes_is_masked():
    """Refusals have been seen to repeat the key; they end up in logs."""
    for quote in [f"Invalid key {CANARY}.", f"{CANARY}{CANARY}", "nothing of it"]:
        key = ApiKey(CANARY)
        assert key.in_success.mask(quote) == quote.replace(CANARY, "***")


def test_key_in_the_name_of_a_header_is_masked_however_it_is_cased():
    """Names are the same in any case, and ours are in lower case."""
    for name in [f"X-{CANARY}", f"X-{CANARY.title()}", f"X-{CANARY.upper()}"]:
        headers = {name.lower(): f"of {CANARY}", "x-task": "1"}
        assert ApiKey(CANARY).in_success.mask_headers(headers) == {"x-***": "of ***", "x-task": "1"}
        assert ApiKey(CANARY.upper()).in_success.mask_headers({name.lower(): ""}) == {"x-***": ""}
        assert ApiKey("sk-x").in_success.mask_headers({"x-task-sk-x": "sk-x"}) == {"x-task-sk-x": "sk-x"}


def test_account_is_identified_without_revealing_the_key():
    """By the key and the origin; extra headers do not matter."""
    origin = "https://api.test"
    account = ApiKey("sk-secret").account(origin)
    assert account == ApiKey("sk-secret", {"x-team": "a"}).account(origin) == "16516ddfe3e23ee7"
    assert len({account, ApiKey("sk-other").account(origin), ApiKey("sk-secret").account("https://other.test")}) == 3


def test_short_key_is_not_looked_for():
    """It would be found in half of all words."""
    assert ApiKey("sk-x").in_success.mask("a task-x") == "a task-x"


def test_good_key_has_no_problems():
    assert ApiKey(CANARY).problems() == []


# Extra headers, which may hold the key of a gateway

GATEWAY = "gw-canary-9876543210"


def key_with(**headers):
    return ApiKey(CANARY, {name.replace("_", "-"): value for name, value in headers.items()})


def test_extra_headers_go_over_the_wire_and_show_a_mask():
    headers = key_with(X_Gateway_Key=GATEWAY, X_Team="a").headers()
    assert {name: value.encode() for name, value in headers.items()} == {
        "X-Gateway-Key": GATEWAY.encode(),
        "X-Team": b"a",
        "Authorization": b"Bearer " + CANARY.encode(),
    }
    assert repr(headers) == "{'X-Gateway-Key': '***', 'X-Team': '***', 'Authorization': '***'}"


def test_extra_headers_are_shown_as_a_mask():
    for show in [repr, str, "{}".format, lambda key: f"{[key]}"]:
        assert GATEWAY not in show(key_with(X_Gateway_Key=GATEWAY))


def test_extra_headers_that_cannot_be_sent_are_problems_without_their_values():
    key = ApiKey("", {"Host": GATEWAY, "X-Key": f"{GATEWAY}\r\nX: 1"})
    assert [problem.field for problem in key.problems()] == ["api_key", "headers", "headers"]
    assert str(key.problems()[1]) == "headers: Host cannot be set: it belongs to the connection"
    assert GATEWAY not in str(key.problems())
    assert set(key.headers()) == {"Authorization"}


def test_extra_headers_that_are_no_mapping_are_a_problem():
    (problem,) = ApiKey(CANARY, f"X-Key: {GATEWAY}").problems()
    assert str(problem) == "headers: must be a mapping of names to values, such as {'X-Team': 'pictures'}"


def test_value_of_a_header_that_a_refusal_quotes_is_masked():
    """With the scheme before it and without."""
    for value in [GATEWAY, f"Bearer {GATEWAY}", f"Basic  {GATEWAY}"]:
        secrets = key_with(X_Gateway_Key=value).in_refusal
        assert secrets.mask(f"no {value}, no {GATEWAY}, no {CANARY}") == "no ***, no ***, no ***"
        assert secrets.mask_headers({f"x-{GATEWAY}": GATEWAY, "x-key": CANARY}) == {"x-***": "***", "x-key": "***"}
        assert GATEWAY not in repr(secrets)


def test_value_of_a_header_is_part_of_results_and_kept_there():
    """The name of a team or a host may stand in the links of pictures; the key may not."""
    secrets = key_with(X_Forwarded_Host="gateway.example").in_success
    link = "https://gateway.example/1.png"
    assert secrets.mask(link) == link
    assert secrets.mask(f"{link}?{CANARY}") == f"{link}?***"


def test_longer_secret_is_masked_first():
    """No rest of it stays when a shorter one is its beginning."""
    secrets = key_with(X_A=GATEWAY, X_B=f"{GATEWAY}-{GATEWAY}", X_C="a b c d e f g").in_refusal
    assert secrets.mask(f"{GATEWAY}-{GATEWAY} {GATEWAY} a b c d e f g e f g") == "*** *** *** e f g"


def test_extra_headers_come_with_the_key_of_the_environment():
    key = ApiKey.from_environment({KEY_VARIABLE: CANARY}, {"X-Team": "a"})
    assert key.headers() == {"X-Team": "a", "Authorization": f"Bearer {CANARY}"}
