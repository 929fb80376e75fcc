"""Error replies have one shape and a bounded size."""

from lemon_async.emulator.service_errors import (
    MAX_FIELD_ERRORS,
    MAX_QUOTED_CHARS,
    FieldError,
    ServiceError,
    error_json,
    excerpt,
)


def rows_of(count):
    """Return the `validation_errors` of a reply about this many fields."""
    return ServiceError.invalid(*(FieldError(f"f{index}", "is wrong") for index in range(count))).as_json()[
        "validation_errors"
    ]


def test_few_field_errors_are_all_listed():
    """Up to the limit, every field has its row."""
    for count in (1, MAX_FIELD_ERRORS):
        assert [row["field"] for row in rows_of(count)] == [f"f{index}" for index in range(count)]


def test_list_of_many_field_errors_ends_with_the_number_left_out():
    """The limit keeps an error reply smaller than the request."""
    rows = rows_of(MAX_FIELD_ERRORS + 7)
    assert len(rows) == MAX_FIELD_ERRORS + 1
    assert rows[-1] == {"field": "validation_errors", "message": "7 more are not listed", "code": "more_errors"}


def test_first_field_error_gives_message_and_param():
    """Clients that read only `error` learn what is wrong."""
    error = ServiceError.invalid(FieldError("n", "is wrong"), FieldError("size", "is wrong")).as_json()["error"]
    assert (error["message"], error["param"], error["code"]) == ("n: is wrong", "n", "invalid_request_error")


def test_type_follows_from_status_and_code():
    """API.md, section 7; an undocumented status has the type of its class."""
    expected = {
        (401, None): "invalid_api_key",
        (402, None): "insufficient_balance",
        (402, "insufficient_quota"): "quota_exceeded",
        (404, "async_task_not_found"): "invalid_request_error",
        (429, None): "rate_limit_error",
        (500, "timeout_error"): "timeout_error",
        (503, None): "all_channels_failed",
        (418, None): "invalid_request_error",
        (599, None): "server_error",
    }
    for (status, code), type_ in expected.items():
        error = error_json(status, code=code)["error"]
        assert error["type"] == type_, (status, code)
        assert error["param"] is None
        assert code in {None, error["code"]}


def test_excerpt_is_short_and_can_be_encoded():
    """A long text ends in an ellipsis; lone surrogates are replaced."""
    for text in ("", "a cat", "x" * MAX_QUOTED_CHARS):
        assert excerpt(text) == text
    assert excerpt("x" * 10**6) == "x" * (MAX_QUOTED_CHARS - 1) + "…"
    assert excerpt("abcdef", 4) == "abc…"
    assert excerpt("a\udcffb") == "a?b"
