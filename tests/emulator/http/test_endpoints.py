"""Endpoints that are not in `service`, and the facts that faults match."""

from lemon_async.emulator import Latency


async def test_models_are_listed_filtered_and_retrieved(client):
    listed = await client.ask("GET", "/v1/models?recommended_for=image&provider=bfl")
    assert [card["id"] for card in listed.json["data"]] == ["flux-pro"]
    assert (await client.ask("GET", "/v1/models/flux-pro")).json["owned_by"] == "bfl"
    assert (await client.ask("GET", "/v1/models/nope")).json["error"]["code"] == "model_not_found"


async def test_unknown_route_is_json(client):
    answer = await client.ask("PATCH", "/v1/nothing")
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
    assert (await client.get("/favicon.ico")).status == 404


async def test_faults_match_the_job_behind_a_request(emu, client):
    """Polls and downloads are matched by the model and prompt of their task."""
    polls = emu.fault("poll", Latency(0), model="flux-pro", prompt="cat")
    files = emu.fault("cdn", Latency(0), prompt="cat")
    model = emu.fault("models", Latency(0), model="flux-pro")
    for prompt in ("a cat", "a dog"):
        answer = await client.poll(await client.submit(prompt, model="flux-pro"))
        await client.get(answer.json["data"][0]["url"])
    await client.poll("unknown")
    await client.get(emu.base_url + "/cdn/0.png")
    for path in ("/v1/models", "/v1/models/flux-pro"):
        await client.ask("GET", path)
    assert (polls.hits, files.hits, model.hits) == (1, 1, 1)
