"""Error responses become exceptions ("Errors" page): one class for each status, odd hints left out."""

import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async import errors
from lemon_async._api.error_responses import Failure, api_error, classify, error_object, request_id_of
from lemon_async._api.response import Response
from lemon_async.errors import (
    ApiError,
    ContractError,
    DownloadError,
    RateLimited,
    ServerError,
    SubmissionUnknown,
    TransportError,
)

steady = settings(derandomize=True, deadline=None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def answer(status, error=None, *, headers=None, body=None, **siblings):
    body = orjson.dumps({"error": error, **siblings}) if body is None else body
    return Response(status, headers or {}, body, received_at=784111777.0)


API_ERROR_CLASS_IS_ROWS = (
    (400, errors.BadRequest),
    (401, errors.AuthenticationError),
    (402, errors.InsufficientBalance),
    (403, errors.AccessDenied),
    (404, errors.NotFound),
    (409, errors.Conflict),
    (413, errors.PayloadTooLarge),
    (429, errors.RateLimited),
    (500, errors.ServerError),
    (502, errors.ServerError),
    (503, errors.ServerError),
    (504, errors.ServerError),
    (599, errors.ServerError),
    (200, ApiError),
    (302, ApiError),
    (405, ApiError),
    (418, ApiError),
    (499, ApiError),
)


def test_api_error_class_follows_from_the_status_alone():
    for body in (b'{"error": {"message": "no"}}', b"<html>no</html>", b""):
        for status, cls in API_ERROR_CLASS_IS_ROWS:
            error = api_error(answer(status, body=body))
            assert type(error) is cls
            assert error.status == status


def test_api_error_keeps_everything_the_service_says():
    error = api_error(
        answer(
            400,
            {
                "message": "The model `flux-po` does not exist",
                "type": "invalid_request_error",
                "code": "model_not_found",
                "param": "model",
                "hint": "see GET /v1/models",
                "did_you_mean": "flux-pro",
                "suggestions": [{"id": "flux-pro"}, {"id": "flux-schnell"}],
                "alternatives": [{"id": "flux-schnell", "status": "ok"}],
                "retryable": False,
                "retry_after": 3,
                "balance_usd": 1,
                "estimated_cost_usd": 0.04,
                "upstream": {"provider": "bfl", "status": 502, "message": "two\r\nlines"},
            },
            validation_errors=[{"field": "model", "message": "unknown", "code": "enum"}],
            headers={"x-request-id": "req_9", "x-billing": "0"},
        )
    )
    assert vars(error) == vars(
        errors.BadRequest(
            status=400,
            message="The model `flux-po` does not exist",
            type="invalid_request_error",
            code="model_not_found",
            param="model",
            hint="see GET /v1/models",
            did_you_mean="flux-pro",
            suggestions=("flux-pro", "flux-schnell"),
            alternatives=({"id": "flux-schnell", "status": "ok"},),
            retryable=False,
            retry_after=3.0,
            balance_usd=1.0,
            estimated_cost_usd=0.04,
            upstream={"provider": "bfl", "status": 502, "message": "two lines"},
            validation_errors=({"field": "model", "message": "unknown", "code": "enum"},),
            request_id="req_9",
            headers={"x-request-id": "req_9", "x-billing": "0"},
        )
    )


def test_api_error_leaves_out_hints_of_unexpected_types():
    for odd in (None, 5, True, "", " \n", [], {}, [1, "a", None], {"id": 5}, [{"id": 5}, {"x": 1}]):
        names = ("code", "type", "param", "hint", "did_you_mean", "suggestions")
        error = api_error(answer(400, {"message": "no", **dict.fromkeys(names, odd)}))
        assert str(error) == "HTTP 400: no"
        assert [getattr(error, name) for name in names] == [None] * 5 + [()]


def test_api_error_takes_amounts_as_numbers_only():
    assert api_error(answer(402, {"message": "no", "balance_usd": "1.5"})).balance_usd == 1.5
    for odd in (None, "much", "nan", True, False, [], {}):
        error = api_error(answer(402, {"message": "no", "balance_usd": odd, "estimated_cost_usd": odd}))
        assert (error.balance_usd, error.estimated_cost_usd) == (None, None)


def test_api_error_takes_retryable_as_a_truth_value_only():
    for odd in (None, "true", 1, 0, []):
        assert api_error(answer(503, {"message": "no", "retryable": odd})).retryable is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"message": "no", "code": "denied"}, "no"),
        ({"message": "", "code": "denied"}, "denied"),
        ({"code": "denied"}, "denied"),
        ({"message": "two\r\nlines\x1b[2J and\ta tab"}, "two lines [2J and a tab"),
    ],
)
def test_api_error_message_is_one_line_in_the_services_words(error, message):
    assert api_error(answer(403, error)).message == message


def test_api_error_without_a_message_describes_the_body():
    for body, message in (
        (b"", "the response is an empty body"),
        (b"<html><title>502 Bad Gateway</title></html>", "the response is an HTML page '502 Bad Gateway'"),
        (b'{"error": {"message": "cut', 'the response is the text \'{"error": {"message": "cut\''),
        (b'{"error": "Invalid API key"}', 'the text \'{"error": "Invalid API key"}\''),
        (b'{"detail": "Not Found"}', 'the text \'{"detail": "Not Found"}\''),
        (b"[]", "the text '[]'"),
        (b"null", "the text 'null'"),
    ):
        assert api_error(answer(502, body=body)).message == message


def test_api_error_retry_after_is_the_headers_or_else_the_bodys():
    for header, body, seconds in (
        ("7", 3, 7.0),
        ("0", 3, 0.0),
        ("soon", 3, 3.0),
        (None, 3, 3.0),
        (None, "3.5", 3.5),
        (None, None, None),
        ("nan", "inf", None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 3, 10.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 3, 0.0),
    ):
        headers = {} if header is None else {"retry-after": header}
        assert api_error(answer(429, {"message": "slow", "retry_after": body}, headers=headers)).retry_after == seconds


def test_api_error_reads_the_retry_after_of_an_unreadable_answer():
    assert api_error(answer(503, headers={"retry-after": "7"}, body=b"<html>busy</html>")).retry_after == 7.0


@pytest.mark.parametrize(
    ("headers", "error", "request_id"),
    [
        ({"x-request-id": "req_1"}, {"message": "no", "request_id": "req_2"}, "req_1"),
        ({"x-request-id": " "}, {"message": "no", "request_id": "req_2"}, "req_2"),
        ({}, {"message": "no", "request_id": "req_2"}, "req_2"),
        ({}, {"message": "no", "request_id": 2}, None),
    ],
)
def test_api_error_request_id_is_the_headers_or_else_the_bodys(headers, error, request_id):
    assert api_error(answer(500, error, headers=headers)).request_id == request_id


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        ({"x-request-id": "req_1"}, "req_1"),
        ({"x-request-id": "a\r\nb"}, "a b"),
        ({"x-request-id": ""}, None),
        ({}, None),
    ],
)
def test_request_id_is_one_line_of_a_header(headers, request_id):
    assert request_id_of(headers) == request_id


def test_api_error_upstream_is_kept_except_for_control_characters():
    """Its shape is not documented."""
    for upstream, kept in (
        ("bfl\x1b[2J", "bfl [2J"),
        ({"name": "bfl\n", "status": 502, "body": None}, {"name": "bfl", "status": 502, "body": None}),
        ("", None),
        (None, None),
        (502, 502),
        (["bfl"], ["bfl"]),
    ):
        assert api_error(answer(502, {"message": "no", "upstream": upstream})).upstream == kept


ROWS = [
    (400, "invalid_request_error", errors.BadRequest),
    (400, "model_not_found", errors.BadRequest),
    (400, "too_many_images", errors.BadRequest),
    (400, "unsupported_task_cancel", errors.BadRequest),
    (401, "invalid_api_key", errors.AuthenticationError),
    (401, "expired_api_key", errors.AuthenticationError),
    (402, "insufficient_balance", errors.InsufficientBalance),
    (402, "insufficient_quota", errors.InsufficientBalance),
    (402, "quota_exceeded", errors.InsufficientBalance),
    (403, "access_denied", errors.AccessDenied),
    (403, "model_not_allowed", errors.AccessDenied),
    (404, "async_task_not_found", errors.NotFound),
    (404, "model_not_found", errors.NotFound),
    (409, "task_not_cancellable", errors.Conflict),
    (413, "payload_too_large", errors.PayloadTooLarge),
    (429, "rate_limit_exceeded", errors.RateLimited),
    (500, "server_error", errors.ServerError),
    (502, "upstream_error", errors.ServerError),
    (503, "all_channels_failed", errors.ServerError),
    (504, "timeout_error", errors.ServerError),
]


def test_row_of_errors():
    """The class follows from the status, and the code is kept: one code occurs with two statuses."""
    for status, code, cls in ROWS:
        error = api_error(answer(status, {"message": "no", "code": code}))
        assert (type(error), error.status, error.code) == (cls, status, code)
        assert str(error) == f"HTTP {status} {code}: no"


def test_row_of_errors_of_remote_pictures_names_the_picture():
    """As documented in "Remote image URLs": 400 or 413, naming the one that could not be fetched."""
    for status, cls in ((400, errors.BadRequest), (413, errors.PayloadTooLarge)):
        for param in ("image_url", "image_urls[2]", "images[0].image_url"):
            error = api_error(answer(status, {"message": "could not be fetched", "param": param}))
            assert type(error) is cls
            assert error.param == param


def test_hints_of_an_error_are_cut():
    """Each entry and each character takes time: megabytes of hints would hold the event loop."""
    entry = {f"name_{n}": "x" * 600 for n in range(12)}
    hints = {"alternatives": [entry] * 30, "suggestions": [{"id": f"m{n}"} for n in range(100)], "upstream": entry}
    error = api_error(answer(400, {"message": "no", **hints}, validation_errors=[entry] * 30))
    assert len(error.alternatives) == len(error.validation_errors) == len(error.suggestions) == 20
    assert error.upstream == error.alternatives[0] == {f"name_{n}": "x" * 500 for n in range(10)}


def test_api_error_ignores_validation_errors_of_another_shape():
    for siblings in (None, 5, "x", {}, {"field": "n"}, [], [5, None]):
        assert api_error(answer(400, {"message": "no"}, validation_errors=siblings)).validation_errors == ()


def test_api_error_lists_each_validation_error():
    found = [{"field": "n", "message": "too big"}, "odd", {"field": "size", "message": "too odd"}]
    error = api_error(answer(400, {"message": "no"}, validation_errors=found))
    assert str(error) == "HTTP 400: no; n: too big; size: too odd"


def test_api_error_does_not_repeat_what_its_message_lists_already():
    found = [{"field": "n", "message": "too big"}, {"field": "size", "message": "too odd"}]
    error = api_error(answer(400, {"message": "2 problems: n: too big, others"}, validation_errors=found))
    assert str(error) == "HTTP 400: 2 problems: n: too big, others; size: too odd"


def test_api_error_validation_errors_are_safe_to_print():
    found = [{"field": "n\r\n", "message": "big\x1b[2J", "code": None, "at": [1], "hint": " "}]
    error = api_error(answer(400, {"message": "no"}, validation_errors=found))
    assert error.validation_errors == ({"field": "n", "message": "big [2J", "code": None, "at": [1], "hint": ""},)
    assert str(error) == "HTTP 400: no; n: big [2J"


def test_api_error_headers_are_a_copy():
    headers = {"x-request-id": "req_1"}
    error = api_error(answer(500, {"message": "no"}, headers=headers))
    headers.clear()
    assert error.headers == {"x-request-id": "req_1"}


ERROR_NAMES = ["message", "code", "type", "param", "hint", "did_you_mean", "suggestions", "alternatives"]
ERROR_NAMES += ["retryable", "retry_after", "balance_usd", "estimated_cost_usd", "request_id"]
error_objects = st.fixed_dictionaries({}, optional=dict.fromkeys(ERROR_NAMES, json_values))
bodies = st.one_of(
    st.binary(max_size=60),
    json_values.map(orjson.dumps),
    st.fixed_dictionaries({"error": error_objects | json_values, "validation_errors": json_values}).map(orjson.dumps),
    st.lists(st.fixed_dictionaries({"field": json_values, "message": json_values}), max_size=2).map(
        lambda found: orjson.dumps({"error": {"message": "no"}, "validation_errors": found})
    ),
)
header_maps = st.dictionaries(
    st.sampled_from(["retry-after", "x-request-id", "content-encoding"]),
    st.sampled_from(["gzip", "br", "identity", "5", "-1", "nan", "1e400"]) | st.text(max_size=10),
)


@steady
@given(st.integers(100, 599), header_maps, bodies)
def test_api_error_of_anything_is_one_printable_line(status, headers, body):
    """Nothing raises, no hint has a wrong type, and no text can control a terminal."""
    error = api_error(Response(status, headers, body))
    assert str(error).isprintable()
    assert error.message
    assert error.retry_after is None or (math.isfinite(error.retry_after) and error.retry_after >= 0)
    assert all(isinstance(name, str) for name in error.suggestions)


ERROR_SAYS_WHAT_BECAME_ROWS = (
    (TransportError(message=""), Failure.NOT_SENT),
    (TransportError(message="", was_sent=True), Failure.UNKNOWN),
    (SubmissionUnknown(request=None, fingerprint="", reason=""), Failure.UNKNOWN),
    (ApiError(status=429, message=""), Failure.TRY_LATER),
    (RateLimited(status=429, message="", retryable=False), Failure.TRY_LATER),
    (ServerError(status=503, message="", code="all_channels_failed", retryable=True), Failure.TRY_LATER),
    (ServerError(status=503, message="", code="upstream_error", retryable=True), Failure.TRY_LATER),
    (ServerError(status=503, message="", code="all_channels_failed", retryable=False), Failure.TRANSIENT),
    (ServerError(status=503, message="", code="all_channels_failed"), Failure.TRANSIENT),
    (ServerError(status=503, message="", code="503", retryable=True), Failure.TRANSIENT),
    (ServerError(status=503, message="", code="busy", retryable=True), Failure.TRANSIENT),
    (ServerError(status=503, message="", retryable=True), Failure.TRANSIENT),
    (ServerError(status=503, message=""), Failure.TRANSIENT),
    (ServerError(status=500, message="", code="server_error", retryable=True), Failure.TRANSIENT),
    (ServerError(status=502, message="", code="upstream_error", retryable=True), Failure.TRANSIENT),
    (ServerError(status=504, message="", code="timeout_error", retryable=True), Failure.TRANSIENT),
    (ApiError(status=408, message="", retryable=True), Failure.TRANSIENT),
    (ApiError(status=302, message=""), Failure.REFUSED),
    (ApiError(status=400, message="", retryable=True), Failure.REFUSED),
    (ApiError(status=499, message=""), Failure.REFUSED),
    (ContractError.of("prompt", "is missing"), Failure.REFUSED),
    (DownloadError(url="", reason=""), Failure.REFUSED),
)


def test_error_classifies_the_failure_of_its_request():
    """Only a 429, and a 503 with `retryable: true`, invite a retry."""
    for error, failure in ERROR_SAYS_WHAT_BECAME_ROWS:
        assert classify(error) is failure


@pytest.mark.parametrize(
    "parsed",
    [{"error": {"message": "no"}}, {"error": {"code": "denied"}}, {"error": {"message": "", "code": 5}, "data": []}],
)
def test_stated_error_is_the_services_own_object(parsed):
    assert error_object(parsed) is parsed["error"]


STATED_ERROR_OF_ANOTHER_ROWS = (
    None,
    [],
    "no",
    5,
    {},
    {"error": None},
    {"error": "no"},
    {"error": []},
    {"error": {}},
    {"error": {"message": 5}},
    {"error": {"message": None, "code": "denied"}},
    {"error": {"type": "x"}},
    {"message": "no"},
    [{"error": {"message": "no"}}],
)


def test_stated_error_of_another_shape_is_none():
    for parsed in STATED_ERROR_OF_ANOTHER_ROWS:
        assert error_object(parsed) is None
