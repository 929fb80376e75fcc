"""A map stops after refusals that all further requests would get, too."""

import pytest

from lemon_async._pace.stop_rule import StopRule, find_stop_fault
from lemon_async.errors import (
    AccessDenied,
    AuthenticationError,
    BadRequest,
    ContractError,
    InsufficientBalance,
    NotFound,
    RateLimited,
    ServerError,
    SubmissionUnknown,
    TaskFailed,
    TransportError,
)
from lemon_async.requests import GenerateRequest

ACCEPTED = None
KEY = AuthenticationError(status=401, message="no", code="invalid_api_key")
BALANCE = InsufficientBalance(status=402, message="no", code="insufficient_balance")
PERMISSION = AccessDenied(status=403, message="no", code="access_denied")
NO_MODEL = NotFound(status=404, message="no", code="model_not_found")
BAD_MODEL = BadRequest(status=400, message="no", code="model_not_found")
NOT_ALLOWED = AccessDenied(status=403, message="no", code="model_not_allowed")
INVALID = BadRequest(status=400, message="no", code="invalid_request_error")
BROKEN = ContractError.of("n", "is too large")
NOT_SENT = TransportError(message="no")
OTHERS = [
    INVALID,
    NotFound(status=404, message="no", code="async_task_not_found"),
    RateLimited(status=429, message="no"),
    ServerError(status=500, message="no"),
    SubmissionUnknown(request=GenerateRequest("p"), fingerprint="0" * 64, reason="no"),
    TaskFailed(reason="no"),
    ValueError("a bug"),
]


def stops(rule, *events):
    """Return after how many events a rule stops; `None` if it does not."""
    for number, event in enumerate(events, 1):
        if event is ACCEPTED:
            rule.observe_acceptance()
        elif rule.stops(event):
            return number
    return None


@pytest.mark.parametrize(
    ("events", "number"),
    [
        ([KEY] * 3, 3),
        ([BALANCE] * 3, 3),
        ([PERMISSION] * 3, 3),
        ([KEY, BALANCE, PERMISSION], 3),
        ([KEY] * 2, None),
        ([KEY, KEY, ACCEPTED, KEY, KEY], None),
        ([ACCEPTED] * 50 + [BALANCE] * 3, 53),
        ([BALANCE, INVALID, BALANCE, NOT_SENT, BALANCE], 5),
        ([NO_MODEL] * 3, 3),
        ([BAD_MODEL, NO_MODEL, NOT_ALLOWED], 3),
        ([ACCEPTED, *[NO_MODEL] * 9, *[NOT_ALLOWED] * 9], None),
        ([NO_MODEL, NO_MODEL, ACCEPTED, *[NO_MODEL] * 9], None),
        *(([error] * 9, None) for error in OTHERS),
        ([BROKEN] * 9, None),
        ([NOT_SENT] * 9, None),
    ],
)
def test_three_refusals_of_the_account_in_a_row_stop_a_map(events, number):
    """Of the model only while nothing has been accepted; other errors neither count nor interrupt the row."""
    assert stops(StopRule("account"), *events) == number


@pytest.mark.parametrize("stop_on", [BadRequest, (KeyError, BadRequest), lambda error: error is INVALID])
def test_first_error_that_matches_stops_a_map(stop_on):
    """Types and functions."""
    assert stops(StopRule(stop_on), KEY, KEY, KEY, INVALID) == 4


def test_nothing_stops_a_map_without_a_rule():
    """`None` yields every refusal."""
    assert stops(StopRule(None), *[KEY] * 50) is None


@pytest.mark.parametrize(
    ("events", "allowance"),
    [
        ([], 3),
        ([KEY, KEY], 3),
        ([BROKEN, BROKEN, NOT_SENT], 6),
        ([KEY, NO_MODEL, BROKEN], 4),
        ([ACCEPTED], None),
        ([KEY, ACCEPTED], None),
        ([ACCEPTED, BROKEN], None),
        *(([error], None) for error in OTHERS),
    ],
)
def test_map_begins_with_three_requests_until_the_account_is_fine(events, allowance):
    """A request that never reached the service gives its place to another one."""
    rule = StopRule("account")
    assert stops(rule, *events) is None
    assert rule.allowance == allowance


def test_map_begins_with_all_requests_if_nothing_is_to_be_found_out():
    """The session has sold something, or the caller has chosen another rule."""
    for rule in (StopRule("account", is_proven=True), StopRule(None), StopRule(AuthenticationError)):
        assert rule.allowance is None
        assert stops(rule, BROKEN) is None
        assert rule.allowance is None


@pytest.mark.parametrize("stop_on", ["account", None, KeyError, (KeyError, ValueError), print, lambda _: True])
def test_rules_that_can_be(stop_on):
    assert find_stop_fault(stop_on) is None


async def later(error):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("stop_on", "words"),
    [
        ("never", "must be 'account', exception types, a function or None, not 'never'"),
        (5, "must be 'account', exception types, a function or None, not 5"),
        ((), "must be 'account', exception types, a function or None, not ()"),
        ((KeyError, 5), "must be 'account', exception types, a function or None, not (<class 'KeyError'>, 5)"),
        (int, "must be 'account', exception types, a function or None, not <class 'int'>"),
        (KeyboardInterrupt, "must be 'account', exception types, a function or None, not <class 'KeyboardInterrupt'>"),
        (later, "must be a plain function, which is called and not awaited; an asyncio.Queue's put_nowait is one"),
    ],
)
def test_rules_that_cannot_be(stop_on, words):
    assert find_stop_fault(stop_on) == words
