from lemon_async.emulator.plugin import lemon_emulator  # noqa: F401 - a fixture


async def test_lemon_emulator_fixture_is_a_fast_running_emulator(lemon_emulator, client_of):  # noqa: F811
    client = client_of(lemon_emulator)
    answer = await client.submit(model="dall-e-3")
    assert answer.status == 200
    assert lemon_emulator.now() < 600
