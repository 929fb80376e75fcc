import pytest

from lemon_async.emulator.http.routes import match_request, methods_of


@pytest.mark.parametrize(
    ("line", "route", "endpoint"),
    [
        ("POST /v1/images/generations", "submit", "submit"),
        ("POST /v1/images/edits", "edit", "edit"),
        ("POST /v1/images/variations", "edit", "vary"),
        ("GET /v1/tasks/x", "poll", "poll"),
        ("GET /v1/images/generations/x", "poll", "poll"),
        ("GET /v1/images/x", "poll", "poll"),
        ("DELETE /v1/tasks/x", "cancel", "cancel"),
        ("DELETE /v1/images/x", "unknown", "unknown"),
        ("GET /v1/images/generations", "unknown", "unknown"),
        ("GET /openapi.json", "openapi", "describe"),
        ("GET /v1/models", "models", "list_models"),
        ("GET /v1/models/x", "models", "show_model"),
        ("POST /v1/files", "files", "create_file"),
        ("GET /v1/files", "files", "list_files"),
        ("GET /v1/files/x", "files", "show_file"),
        ("GET /v1/files/x/content", "files", "read_file"),
        ("DELETE /v1/files/x", "files", "delete_file"),
        ("GET /cdn/0a.png", "cdn", "download"),
        ("GET /cdn/../x.png", "unknown", "unknown"),
        ("GET /v1/tasks/", "unknown", "unknown"),
        ("GET /v1/tasks/a/b", "unknown", "unknown"),
        ("PUT /v1/models", "unknown", "unknown"),
    ],
)
def test_request_lines_find_their_endpoint(line, route, endpoint):
    call = match_request(*line.split())
    assert (call.route, call.endpoint) == (route, endpoint)


@pytest.mark.parametrize("path", ["generations", "edits", "variations"])
def test_requests_that_cost_money_are_known_as_such(path):
    assert match_request("POST", f"/v1/images/{path}").is_paid
    assert not match_request("GET", f"/v1/images/{path}").is_paid


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/v1/files", ["POST", "GET"]), ("/v1/images/generations", ["POST"]), ("/v1/images/x", ["GET"]), ("/v1/x", [])],
)
def test_methods_are_those_that_lead_somewhere(path, methods):
    assert methods_of(path) == methods
