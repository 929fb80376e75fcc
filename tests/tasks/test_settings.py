"""Settings of a session are checked together, before anything is connected."""

import traceback

import pytest
from aiohttp import TraceConfig

from lemon_async import (
    ContractError,
    LemonSession,
    PollPolicy,
)
from lemon_async._http.key import KEY_VARIABLE
from lemon_async._tasks.settings import BASE_URL_VARIABLE

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No key and no address come from the machine that runs the tests."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)


def test_every_bad_setting_is_told_at_once():
    with pytest.raises(ContractError) as caught:
        LemonSession("sk x", base_url="http://api.test", max_submits=0, max_polls=True, max_downloads="8")
    assert [(problem.field, problem.message.partition(",")[0]) for problem in caught.value.problems] == [
        ("api_key", "contains a character that no key has (white space"),
        ("base_url", "must use https"),
        ("max_submits", "must be a whole number from 1"),
        ("max_polls", "must be a whole number from 1"),
        ("max_downloads", "must be a whole number from 1"),
    ]
    assert str(caught.value).startswith("5 problems, nothing was sent:\n  - api_key: ")


def test_shared_limit_needs_the_limit_and_is_a_url():
    """The URL may have a password: no local variable in the traceback shows it."""
    for options, words in (
        ({"shared_limit": "redis://:secret@cache.test"}, "needs requests_per_minute"),
        ({"shared_limit": 6379, "requests_per_minute": 60}, "must be the URL of a store"),
    ):
        with pytest.raises(ContractError, match=words) as caught:
            LemonSession("sk-x", **options)
        assert [problem.field for problem in caught.value.problems] == ["shared_limit"]
        frames = [frame for frame, _ in traceback.walk_tb(caught.tb)][1:]
        assert frames
        assert "secret" not in repr([frame.f_locals for frame in frames])


def test_missing_key_is_told_where_to_come_from():
    with pytest.raises(ContractError, match=f"api_key: is missing: pass api_key=, or set .* {KEY_VARIABLE}"):
        LemonSession()


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://api.test", "https://api.test"),
        ("https://api.test/", "https://api.test"),
        ("https://api.test/v1", "https://api.test"),
        ("https://api.test/v1/", "https://api.test"),
        ("https://API.test:443", "https://api.test"),
        ("https://api.test:8443/v1", "https://api.test:8443"),
        ("http://localhost:8080/v1", "http://localhost:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://gateway.test/lemon/v1/", "https://gateway.test/lemon"),
        (None, "https://api.lemondata.cc"),
    ],
)
def test_address_is_read_as_openai_clients_spell_it(base_url, origin):
    assert LemonSession("sk-x", base_url=base_url).base_url == origin


def test_plain_http_needs_a_host_that_is_named():
    assert LemonSession("sk-x", base_url="http://emulator:80", allow_http={"emulator"}).base_url == "http://emulator"
    with pytest.raises(ContractError, match=r"allow_http=\{'emulator'\}"):
        LemonSession("sk-x", base_url="http://emulator", allow_http={"other"})


@pytest.mark.parametrize("given", ["emulator", ["emulator"], {"http://emulator"}, {"*"}], ids=repr)
def test_host_for_plain_http_that_cannot_work_is_refused(given):
    with pytest.raises(ContractError, match="allow_http: ") as caught:
        LemonSession("sk-x", base_url="https://emulator", allow_http=given)
    assert [problem.field for problem in caught.value.problems] == ["allow_http"]


@pytest.mark.parametrize(
    ("base_url", "advice"),
    [
        ("api.test", "must look like https://api.lemondata.cc"),
        ("ftp://api.test", "must look like https://api.lemondata.cc"),
        ("https://", "must look like https://api.lemondata.cc"),
        ("https://api.test:port", "must look like https://api.lemondata.cc"),
        ("https://api.test\r\n", "must look like https://api.lemondata.cc"),
        ("https://me:sk-x@api.test", "must not hold credentials; pass the key as api_key"),
        ("https://api.test?key=x", "must not have a query or a fragment"),
        ("https://api.test/#x", "must not have a query or a fragment"),
        ("https://api.test/v1/images/generations", "must be the part before /v1"),
        ("https://api.test/a/../b", "must have a plain path such as /lemon, or none"),
        ("http://192.168.0.1", "must use https, or the key could be read in transit"),
    ],
)
def test_address_that_cannot_work_is_refused_with_what_to_change(base_url, advice):
    with pytest.raises(ContractError, match="base_url: ") as caught:
        LemonSession("sk-x", base_url=base_url)
    assert caught.value.problems[0].message.startswith(advice)


def test_address_and_key_come_from_the_environment_and_arguments_win(monkeypatch):
    monkeypatch.setenv(BASE_URL_VARIABLE, "https://env.test/v1")
    with pytest.raises(ContractError, match="api_key"):
        LemonSession()
    monkeypatch.setenv(KEY_VARIABLE, "sk-env")
    assert LemonSession().base_url == "https://env.test"
    assert LemonSession(base_url="https://argument.test").base_url == "https://argument.test"
    with pytest.raises(ContractError, match="api_key: is missing"):
        LemonSession("")


async def test_session_works_from_the_environment_alone(emulator, monkeypatch):
    monkeypatch.setenv(BASE_URL_VARIABLE, emulator.base_url)
    monkeypatch.setenv(KEY_VARIABLE, emulator.api_key)
    async with LemonSession(polling=QUICK) as session:
        assert len(await session.generate("a cat", model="flux-pro")) == 1


def test_traceback_of_refused_settings_shows_no_key():
    """Not even with the local variables of the library's frames."""

    def read_key():
        return "sk-canary-0123456789"

    with pytest.raises(ContractError) as caught:
        LemonSession(read_key(), max_polls=0)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "self = <LemonSession, not initialised>" in shown
    assert "key = ApiKey('***')" in shown
    assert "sk-canary-0123456789" not in shown


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Authorization": "Bearer gw-canary-9876543210"}, "Authorization cannot be set"),
        ({"X-Key": "gw-canary-9876543210\n"}, "the value of X-Key must be one line"),
        ({"gw-canary-9876543210 X": "a"}, "the name of entry 1 must be letters"),
        ("X-Key: gw-canary-9876543210", "must be a mapping"),
    ],
)
def test_extra_header_that_cannot_be_sent_is_refused_and_its_value_shown_nowhere(headers, words):
    held = [headers]
    del headers  # or the test's own frame would show it
    with pytest.raises(ContractError, match=f"headers: {words}") as caught:
        LemonSession("sk-x", headers=held.pop())
    error = caught.value.with_traceback(caught.tb.tb_next)
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "gw-canary" not in shown + str(error) + repr(error)


def test_address_that_is_no_text_is_refused():
    for base_url in [5, 0, [], b"https://api.test", ["https://api.test"], True, False]:
        with pytest.raises(ContractError, match="base_url: must look like https://api"):
            LemonSession("sk-x", base_url=base_url)


def test_switch_of_another_type_is_refused():
    for value in ["no", 0, None]:
        with pytest.raises(ContractError, match="check_contracts: must be a bool, not"):
            LemonSession("sk-x", check_contracts=value)


@pytest.mark.parametrize(
    ("option", "kind"), [("polling", "PollPolicy"), ("retry", "RetryPolicy"), ("timeouts", "Timeouts")]
)
def test_setting_of_a_wrong_type_is_refused_before_anything_is_sent(option, kind):
    """A dictionary that looks like a policy would otherwise fail after the job was accepted."""
    with pytest.raises(ContractError, match=f"{option}: must be a {kind}, not"):
        LemonSession("sk-x", **{option: {"min_gap_s": 1}})


# Events


@pytest.mark.parametrize("value", [3, "print", [print, None], [lambda event: None, "x"]])
def test_what_cannot_be_called_with_events_is_refused(value):
    with pytest.raises(ContractError, match="on_event: must be a function, not "):
        LemonSession("sk-x", on_event=value)


def test_coroutine_functions_are_refused_for_events():
    """Calling one would only make a coroutine that never runs."""

    async def handle(event):
        pass

    with pytest.raises(ContractError, match="on_event: must be a plain function"):
        LemonSession("sk-x", on_event=[print, handle])


def test_one_function_several_or_none_may_take_events():
    assert LemonSession("sk-x", on_event=())._engine.emitter is None
    for value in (print, [print], (print, print)):
        assert LemonSession("sk-x", on_event=value)._engine.emitter is not None


@pytest.mark.parametrize("value", [None, 3, "trace", TraceConfig(), [TraceConfig(), print]])
def test_what_is_no_trace_config_is_refused(value):
    with pytest.raises(ContractError, match=r"trace_configs: must be aiohttp\.TraceConfig objects in a list, not "):
        LemonSession("sk-x", trace_configs=value)
