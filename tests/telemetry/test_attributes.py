"""What spans and metrics say."""

import json

import pytest

from lemon_async import EditRequest, GenerateRequest, VariationRequest
from lemon_async.errors import BadRequest, TaskFailed
from lemon_async.telemetry import attributes
from lemon_async.types import Billing


def test_names_are_those_of_the_conventions():
    """A count of one is the default, which the conventions leave out."""
    request = GenerateRequest("a cat", model="flux-pro", n=4)
    assert attributes.request_attributes(request) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "lemondata",
        "gen_ai.output.type": "image",
        "gen_ai.request.model": "flux-pro",
        "gen_ai.request.choice.count": 4,
    }
    assert "gen_ai.request.choice.count" not in attributes.request_attributes(GenerateRequest("a cat", n=1))


@pytest.mark.parametrize(
    ("request_", "model"),
    [
        (GenerateRequest("a cat"), "dall-e-3"),
        (VariationRequest(image="cat.png"), "dall-e-2"),
        (EditRequest("a hat", image="cat.png", model="m" * 300), "m" * 256),
        (GenerateRequest("a cat", model="\ud800"), "?"),
        (GenerateRequest("a cat", model=7), None),
    ],
)
def test_model_is_short_text_that_can_be_encoded(request_, model):
    """A request that names none is for the service's default."""
    assert attributes.model_of(request_) == model


def test_prompt_is_a_message_of_the_conventions():
    """A variation has none."""
    said = attributes.prompt_attributes(GenerateRequest('a "cat" \ud800'))
    message = {"role": "user", "parts": [{"type": "text", "content": 'a "cat" ?'}]}
    assert json.loads(said["gen_ai.input.messages"]) == [message]
    assert attributes.prompt_attributes(VariationRequest(image="cat.png")) == {}


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (None, {}),
        ({"input_tokens": 5, "output_tokens": 70}, {"input_tokens": 5, "output_tokens": 70}),
        ({"prompt_tokens": 5, "completion_tokens": 0}, {"input_tokens": 5, "output_tokens": 0}),
        ({"input_tokens": "5", "output_tokens": True}, {}),
        ({"input_tokens": -1, "output_tokens": 2**63}, {}),
    ],
)
def test_usage_is_said_if_it_is_a_count(usage, said):
    """What the service sends instead would be refused by exporters."""
    expected = {f"gen_ai.usage.{name}": count for name, count in said.items()}
    assert attributes.response_attributes(Billing(usage=usage)) == expected


@pytest.mark.parametrize(
    ("url", "full", "host", "port"),
    [
        ("https://cdn.example/a/b.png?sig=secret#x", "https://cdn.example/a/b.png", "cdn.example", 443),
        ("http://user:secret@127.0.0.1:81/b.png", "http://127.0.0.1:81/b.png", "127.0.0.1", 81),
        ("https://[::1]/b.png", "https://[::1]/b.png", "::1", 443),
    ],
)
def test_links_have_no_secrets(url, full, host, port):
    """Queries and user names of links are credentials."""
    assert attributes.link_attributes(url) == {"url.full": full, "server.address": host, "server.port": port}


@pytest.mark.parametrize("url", ["", "b.png", "data:image/png;base64,AA", "https://[x", "https://h:99999/"])
def test_links_that_are_none_say_nothing(url):
    """Something else than a link is no address of a server."""
    assert attributes.link_attributes(url) == {}


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v1/models", "/v1/models"),
        ("/v1/models/flux%2Fpro", "/v1/models/{id}"),
        ("/v1/files/file-1/content", "/v1/files/{id}/content"),
        ("/v1/tasks/task_1", "/v1/tasks/{id}"),
    ],
)
def test_ids_are_not_in_templates(path, template):
    """Names of spans must be few."""
    assert attributes.template_of(path) == template


def test_status_is_that_of_the_response():
    """An error of a task has none."""
    assert attributes.status_code_of(BadRequest(status=400, message="no")) == 400
    assert attributes.status_code_of(TaskFailed(reason="no")) is None
