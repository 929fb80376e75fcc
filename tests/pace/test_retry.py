"""What may be sent again, and how long to wait before."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lemon_async._api.error_responses import Failure
from lemon_async._pace.retry import NextStep, RequestKind, RetryPolicy, next_step
from lemon_async.errors import ContractError

steady = settings(derandomize=True, deadline=None)

POLICY = RetryPolicy(max_elapsed_s=120, first_backoff_s=0.5, max_backoff_s=20, max_retry_after_s=60)


def wait(policy=POLICY, *, attempt=1, elapsed_s=0.0, retry_after_s=None, jitter=0.0):
    return policy.wait_s(attempt=attempt, elapsed_s=elapsed_s, retry_after_s=retry_after_s, jitter=jitter)


RETRIED = {
    RequestKind.SUBMIT: {Failure.NOT_SENT, Failure.TRY_LATER},
    RequestKind.CHANGE: {Failure.NOT_SENT, Failure.TRY_LATER},
    RequestKind.READ: {Failure.NOT_SENT, Failure.TRY_LATER, Failure.TRANSIENT, Failure.UNKNOWN},
    RequestKind.POLL: {Failure.NOT_SENT, Failure.TRY_LATER, Failure.TRANSIENT, Failure.UNKNOWN},
    RequestKind.DOWNLOAD: {Failure.NOT_SENT, Failure.TRY_LATER, Failure.TRANSIENT, Failure.UNKNOWN},
}


def test_table_has_the_next_step_after_every_failure():
    """Requests with an effect are sent again only if they were not executed; failed polls never end a task."""
    for kind in RequestKind:
        for failure in Failure:
            expected = NextStep.RETRY if failure in RETRIED[kind] else NextStep.RAISE
            if kind is RequestKind.POLL and failure is Failure.NOT_FOUND:
                expected = NextStep.CONFIRM
            assert next_step(kind, failure) is expected, failure


def test_unknown_submission_alone_is_retried_because_the_caller_opted_in():
    for kind in RequestKind:
        for failure in Failure:
            is_opted_in = (kind, failure) == (RequestKind.SUBMIT, Failure.UNKNOWN)
            expected = NextStep.RETRY if is_opted_in else next_step(kind, failure)
            assert next_step(kind, failure, resubmit_unknown=True) is expected


def test_policy_does_not_resubmit_by_default():
    assert RetryPolicy().resubmit_unknown is False
    assert RetryPolicy(max_elapsed_s=120) == POLICY


@pytest.mark.parametrize("value", ["false", "no", 1, 0, None, []], ids=repr)
def test_resubmitting_needs_a_true_or_false(value):
    """Text from a configuration file is true, whatever it says, and a second sale costs money."""
    with pytest.raises(ContractError, match="resubmit_unknown: must be True or False, not "):
        RetryPolicy(resubmit_unknown=value)


def test_policy_is_written_with_names():
    with pytest.raises(TypeError):
        RetryPolicy(120)


def test_backoff_doubles_up_to_its_longest():
    """A wait lies between half of the backoff and the backoff."""
    for attempt, ceiling in [
        (1, 0.5),
        (2, 1),
        (3, 2),
        (4, 4),
        (5, 8),
        (6, 16),
        (7, 20),
        (8, 20),
        (65, 20),
        (66, 20),
        (10**9, 20),
    ]:
        assert wait(attempt=attempt, jitter=0.0) == ceiling / 2
        assert wait(attempt=attempt, jitter=0.5) == ceiling * 0.75
        assert wait(attempt=attempt, jitter=math.nextafter(1, 0)) == pytest.approx(ceiling)


def test_wait_is_what_the_service_asked_for_within_bounds():
    """Never sooner; a little later, so that clients that failed together do not retry together."""
    for retry_after_s, jitter, seconds in [
        (7, 0.0, 7),
        (7, 0.5, 7.25),
        (0.1, 0.0, 0.1),
        (60, 0.0, 60),
        (61, 0.0, 60),
        (86400, 0.5, 60.25),
    ]:
        assert wait(attempt=9, retry_after_s=retry_after_s, jitter=jitter) == seconds


def test_wait_of_nothing_is_answered_with_the_backoff():
    """`Retry-After: 0`, or a date that has passed, does not allow a retry without a pause."""
    for attempt in [1, 2, 5]:
        assert wait(attempt=attempt, retry_after_s=0.0, jitter=0.5) == wait(attempt=attempt, jitter=0.5)


def test_wait_that_does_not_fit_is_none():
    for elapsed_s, retry_after_s, seconds in [
        (119.75, None, 0.25),
        (119.76, None, None),
        (120, None, None),
        (60, 60, 60),
        (60.01, 60, None),
        (500, 0.001, None),
    ]:
        assert wait(elapsed_s=elapsed_s, retry_after_s=retry_after_s) == seconds


def test_policy_without_time_makes_one_attempt():
    assert wait(RetryPolicy(max_elapsed_s=0)) is None


def test_policy_refuses_settings_that_cannot_work():
    for name, value in [
        ("max_elapsed_s", -1),
        ("first_backoff_s", 0),
        ("max_backoff_s", 0),
        ("max_retry_after_s", 0),
        ("max_retry_after_s", math.inf),
    ]:
        with pytest.raises(ContractError, match=name):
            RetryPolicy(**{name: value})


amounts = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
policies = st.builds(
    RetryPolicy,
    max_elapsed_s=st.floats(min_value=0, allow_infinity=False),
    first_backoff_s=amounts,
    max_backoff_s=amounts,
    max_retry_after_s=amounts,
)


@steady
@given(
    policies,
    st.integers(1, 2000),
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e300),
    st.floats(0, 1, exclude_max=True),
)
@example(RetryPolicy(max_elapsed_s=1e308, first_backoff_s=1e300, max_backoff_s=1e300), 65, 0.0, None, 0.0)
def test_wait_is_within_the_bounds_of_any_policy(policy, attempt, elapsed_s, retry_after_s, jitter):
    seconds = wait(policy, attempt=attempt, elapsed_s=elapsed_s, retry_after_s=retry_after_s, jitter=jitter)
    if seconds is None:
        return
    assert math.isfinite(seconds)
    assert elapsed_s + seconds <= policy.max_elapsed_s
    if retry_after_s:
        asked = min(retry_after_s, policy.max_retry_after_s)
        assert asked <= seconds <= asked + policy.first_backoff_s
    else:
        assert 0 <= seconds <= policy.max_backoff_s


@steady
@given(policies, st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_backoff_never_shrinks_from_attempt_to_attempt(policy, attempt, jitter):
    waits = [wait(policy, attempt=number, jitter=jitter) for number in (attempt, attempt + 1)]
    assert None in waits or waits[0] <= waits[1]
