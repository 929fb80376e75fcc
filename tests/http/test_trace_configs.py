"""The caller's trace configs see every request of a session, and cannot make it pay twice."""

import pytest
from aiohttp import TraceConfig

from lemon_async import SubmissionUnknown


@pytest.fixture
def traced():
    """A trace config, and the paths of the requests that it has seen."""
    paths, trace = [], TraceConfig()

    async def on_request_start(_session, _context, params):
        paths.append(params.url.path)

    trace.on_request_start.append(on_request_start)
    return trace, paths


async def test_trace_configs_see_submits_polls_calls_and_downloads(connect, traced, tmp_path):
    trace, paths = traced
    async with connect(trace_configs=[trace]) as session:
        images = await session.generate("a cat", model="flux-pro")
        await images[0].save(tmp_path / "cat.png")
        await session.models()
    kinds = {"/".join(path.split("/")[:4]) for path in paths}
    assert {"/v1/images/generations", "/v1/models"} <= kinds
    assert any(path.startswith("/cdn/") for path in paths)
    assert len(paths) >= 4


async def test_trace_that_raises_after_the_response_makes_the_outcome_unknown(connect, emulator):
    """The request went out: it is neither repeated nor reported as not sold."""
    trace = TraceConfig()

    async def on_request_end(_session, _context, _params):
        raise RuntimeError("wrong")

    trace.on_request_end.append(on_request_end)
    async with connect(trace_configs=[trace]) as session:
        with pytest.raises(SubmissionUnknown):
            await session.generate("a cat", model="flux-pro")
    assert emulator.ledger.sold.total() == 1
