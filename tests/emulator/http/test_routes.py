"""Request lines and their endpoints."""

from lemon_async.emulator.http.routes import match_request, methods_of


def test_request_lines_find_their_endpoint():
    lines = [
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
        ("GET /openapiXjson", "unknown", "unknown"),
        ("GET /cdn/0aXpng", "unknown", "unknown"),
    ]
    calls = [match_request(*line.split()) for line, *_ in lines]
    assert [(call.route, call.endpoint) for call in calls] == [(route, endpoint) for _, route, endpoint in lines]


def test_parameters_of_a_path_are_the_arguments_of_its_call():
    assert match_request("GET", "/v1/images/generations/x").args == {"id": "x"}
    assert match_request("GET", "/cdn/0a.png").args == {"token": "0a", "ext": "png"}


def test_submits_edits_and_variations_are_paid():
    for path in ("generations", "edits", "variations"):
        assert match_request("POST", f"/v1/images/{path}").is_paid
        assert not match_request("GET", f"/v1/images/{path}").is_paid


def test_methods_of_a_path():
    methods = {"/v1/files": ["POST", "GET"], "/v1/images/generations": ["POST"], "/v1/images/x": ["GET"], "/v1/x": []}
    assert {path: methods_of(path) for path in methods} == methods
