"""The OpenAPI document, and the responses of the emulator against it."""

import asyncio
import io
from collections import Counter
from functools import cache

import pytest
import requests
from PIL import Image

from lemon_async.emulator import Answer, Emulator, Fail, Script
from lemon_async.emulator.http.openapi import document
from lemon_async.emulator.http.routes import KEY_PREFIX, PATTERNS, match_request
from lemon_async.emulator.service_errors import error_json

DOCUMENT = document("http://127.0.0.1:1")
OPERATIONS = [
    (method.upper(), path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
GENERATIONS, EDITS, VARIATIONS = (f"/v1/images/{name}" for name in ("generations", "edits", "variations"))


# The document


def test_every_route_is_described():
    described = [match_request(method, path.replace("{token}.{ext}", "0a.png")) for method, path, _ in OPERATIONS]
    assert {call.endpoint for call in described} == {path.endpoint for path in PATTERNS}
    assert "/v1/images/{id}" in DOCUMENT["paths"]


def test_operation_ids_are_unique():
    ids = [operation["operationId"] for *_, operation in OPERATIONS]
    assert len(set(ids)) == len(ids) == 16


def test_key_is_required_for_the_api_only():
    public = {path for _, path, operation in OPERATIONS if operation.get("security") == []}
    assert public == {path for _, path, _ in OPERATIONS if not path.startswith(KEY_PREFIX)}
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_errors_have_an_example():
    for status, code in ((400, "invalid_request_error"), (401, "invalid_api_key"), (502, "upstream_error")):
        answer = DOCUMENT["paths"]["/v1/images/generations"]["post"]["responses"][str(status)]
        assert answer["content"]["application/json"]["example"] == error_json(status)
        assert error_json(status)["error"]["code"] == code


async def test_document_is_public_and_names_its_server(emu, client):
    answer = await client.get(f"{emu.base_url}/openapi.json")
    assert (answer.status, answer.json["openapi"]) == (200, "3.1.0")
    assert answer.json["servers"] == [{"url": emu.base_url}]
    assert {**answer.json, "servers": None} == {**DOCUMENT, "servers": None}


# The responses against the document. schemathesis is imported where it is used: all other workers do without.


@cache
def load():
    """Import schemathesis, and read the document with it."""
    import schemathesis.config  # noqa: PLC0415 - takes seconds, likewise below
    import schemathesis.engine.events  # noqa: PLC0415
    import schemathesis.openapi.checks  # noqa: PLC0415

    return schemathesis, schemathesis.openapi.from_dict(DOCUMENT)


def configuration(emu):
    """Return the configuration of schemathesis; it sends the same requests in every run."""
    return {
        "base-url": emu.base_url,
        "headers": {"Authorization": f"Bearer {emu.api_key}"},
        "seed": 1,
        "generation": {"deterministic": True, "max-examples": 2, "database": "none"},
        "cache": {"enabled": False},
        "continue-on-failure": True,
        # An emulator that is broken altogether, or does not respond, is not tested for hours.
        "request-timeout": 30,
        "suppress-health-check": ["all"],
        # JSON Schema cannot express every rule: that 72x88 has too few pixels, that random bytes are not a picture.
        "checks": {"positive_data_acceptance": {"enabled": False}},
        # Bodies have many variants, which `test_openapi_schemas` compares with validation; here, a few random ones do.
        "operations": [
            {"include-operation-id": id_, "phases": {"coverage": {"enabled": False}}}
            for id_ in ("createImage", "createImageEdit", "createImageVariation", "createFile")
        ],
    }


def one_family(described):
    """Reduce the document to one family, to save time: `test_openapi_schemas` compares those of all with validation."""
    for path in (GENERATIONS, EDITS):
        order = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        order["anyOf"] = [schema for schema in order["anyOf"] if schema["title"] == "GPT Image 2"]
    return described


def attack(emu):
    """Run schemathesis; return its findings, and the number of responses with each status."""
    schemathesis, _ = load()
    events = schemathesis.engine.events
    config = schemathesis.config.SchemathesisConfig.from_dict(configuration(emu))
    config.update(max_failures=20)
    schema = schemathesis.openapi.from_dict(one_family(document(emu.base_url)), config=config)
    findings, statuses = [], Counter()
    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            findings.append(str(event))
        elif isinstance(event, events.ScenarioFinished):
            answers = [seen.response for seen in event.recorder.interactions.values() if seen.response is not None]
            statuses.update(answer.status_code for answer in answers)
            checks = [check for checks in event.recorder.checks.values() for check in checks]
            failures = [check.failure_info for check in checks if check.failure_info is not None]
            findings += [f"{found.failure}\n{found.code_sample}" for found in failures]
    return findings, statuses


async def test_responses_are_as_described():
    """Whatever schemathesis sends, valid or not, alone or in sequence: the document describes the response."""
    async with Emulator(durations=0, cancellable=True) as emu:
        findings, statuses = await asyncio.to_thread(attack, emu)
    assert findings == []
    assert min(statuses[status] for status in (200, 400, 401, 404, 405)) > 5


@pytest.fixture
def ask(emu):
    """Send a request and validate the response against its operation."""

    async def send(method, path, address=None, **options):
        url, headers = emu.base_url + (address or path), {"Authorization": f"Bearer {emu.api_key}"}
        answer = await asyncio.to_thread(requests.request, method, url, headers=headers, timeout=60, **options)
        assert answer.status_code == 200, answer.text
        load()[1][path][method].validate_response(answer)
        return answer

    return send


def png(mode="RGBA"):
    """Return a small square picture, transparent if its mode has alpha."""
    file = io.BytesIO()
    Image.new(mode, (64, 64)).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
async def test_pictures_are_as_described(ask, response_format):
    order = {"model": "gpt-image-2", "prompt": "p", "size": "1024x640", "response_format": response_format}
    assert (await ask("POST", GENERATIONS, json=order)).json()["usage"]
    picture, form = {"image": ("a.png", png())}, {"response_format": response_format}
    await ask("POST", EDITS, data={"prompt": "p", **form}, files=picture)
    (image,) = (await ask("POST", VARIATIONS, data=form, files=picture)).json()["data"]
    if response_format == "url":
        assert (await ask("GET", "/cdn/{token}.{ext}", f"/cdn/{image['url'].rpartition('/')[2]}")).content


@pytest.mark.parametrize("ending", [None, Fail(), Fail({"code": "c", "message": "m"}), Fail(None), Script(["pending"])])
async def test_tasks_are_as_described(emu, ask, ending):
    if ending is not None:
        emu.fault("submit", ending)
    task = (await ask("POST", GENERATIONS, json={"model": "flux-pro", "prompt": "p"})).json()
    for path in ("/v1/tasks/{id}", "/v1/images/generations/{id}", "/v1/images/{id}"):
        await ask("GET", path, path.replace("{id}", task["id"]))


async def test_streams_are_as_described(emu, ask):
    order = {"model": "gpt-image-2", "prompt": "p", "size": "1024x640", "stream": True, "partial_images": 1}
    assert (await ask("POST", GENERATIONS, json=order)).headers["Content-Type"] == "text/event-stream"
    emu.fault("submit", Fail("no"))
    assert "event: error" in (await ask("POST", GENERATIONS, json=order)).text


async def test_streams_that_differ_from_the_document_are_noticed(emu, ask):
    emu.fault("submit", Answer(usage="much"))
    with pytest.raises(load()[0].openapi.checks.JsonSchemaError, match="usage"):
        await ask("POST", GENERATIONS, json={"model": "gpt-image-2", "prompt": "p", "stream": True})


async def test_files_are_as_described(ask):
    upload = {"file": ("a.png", png("RGB"))}
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    sent = (await ask("POST", "/v1/files", data={"purpose": "vision", **expiry}, files=upload)).json()
    for path in ("/v1/files", "/v1/files/{id}", "/v1/files/{id}/content"):
        await ask("GET", path, path.replace("{id}", sent["id"]))
    await ask("DELETE", "/v1/files/{id}", f"/v1/files/{sent['id']}")


async def test_models_are_as_described(ask):
    for model in (await ask("GET", "/v1/models", params={"recommended_for": "image"})).json()["data"]:
        await ask("GET", "/v1/models/{id}", f"/v1/models/{model['id']}")
