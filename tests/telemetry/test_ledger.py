"""Law: what telemetry says of a batch is what the service's ledger says, number for number, whatever goes wrong."""

import base64
from collections import Counter
from itertools import count

import pytest
from opentelemetry.sdk.trace import SpanProcessor

from lemon_async import LemonSession, PollPolicy, events
from lemon_async.batch import State
from lemon_async.emulator import Emulator, Expire, Fail, Reset, Result, Status

ROWS = 1000
POLLING = PollPolicy(min_gap_s=0.01, max_gap_s=0.1, deadline_s=600)


class Begun(SpanProcessor):
    """Counts spans when they begin."""

    def __init__(self):
        self.number = 0

    def on_start(self, span, parent_context=None):
        self.number += 1


@pytest.fixture
async def service(png):
    """An emulator where a fifth of the rows meet a fault, by seeded coins."""
    async with Emulator(speed=3000, durations=60.0) as running:
        seeds = count()

        def fault(route, action, probability, **conditions):
            return running.fault(route, action, probability=probability, seed=next(seeds), **conditions)

        running.refusing = [
            fault("submit", Status(400, code="content_policy_violation"), 0.04),
            fault("submit", Status(503), 0.02),
        ]
        running.billed = [
            fault("submit", Status(502, body="html"), 0.03, bill=True),
        ]
        running.unbilled = [
            fault("submit", Status(502, body="html"), 0.02, bill=False),
            fault("submit", Reset("response_head"), 0.02, bill=False),
        ]
        fault("submit", Fail("no luck"), 0.08)
        fault("poll", Status(502, body="html"), 0.05)
        fault("cdn", Expire(), 0.2)
        content = base64.b64encode(png).decode()
        running.fault("submit", Result([{"b64_json": content}]), prompt=r"[^0]$")
        yield running


@pytest.mark.long
async def test_a_batch_with_faults_agrees_with_the_ledger(otel, service, tmp_path):
    """Each counter, each span and each row; nothing is in flight in the end, and no span stays open."""
    begun, seen = Begun(), Counter()
    otel.tracer_provider.add_span_processor(begun)
    session = LemonSession(
        service.api_key,
        base_url=service.base_url,
        polling=POLLING,
        requests_per_minute=6_000_000,
        max_submits=20,
        on_event=[otel.telemetry(), lambda event: seen.update([type(event)])],
    )
    rows = [{"prompt": f"row {row}"} for row in range(ROWS)]
    options = {"key": "prompt", "in_flight": 200, "size": "256x256", "model": "flux-pro", "stop_on": None}
    out = tmp_path / "out"
    async with session:
        with otel.tracer.start_as_current_span("run") as run:
            async with session.batch(
                tmp_path / "run.db", rows, save=str(tmp_path / "out" / "{key}"), **options
            ) as batch:
                async for _ in batch:
                    pass
                counts = {str(state): number for state, number in batch.counts.items() if number}
                assert otel.by("lemon_async.batch.rows", "lemon_async.row.state") == counts
        tally = session.submission_counts
    check_money(otel, service, tally, counts[State.DOUBTFUL])
    check_requests(otel, service, seen)
    check_spans(otel, run)
    assert begun.number == len(otel.spans)
    assert counts.keys() >= {State.DONE, State.REFUSED, State.DOUBTFUL}
    assert otel.total("lemon_async.batch.rows") == 0
    fetched = [path for path in out.iterdir() if path.stem[-1] == "0"]  # those of other rows came with the last poll
    assert otel.total("lemon_async.download.io") == sum(path.stat().st_size for path in fetched)


def check_money(otel, service, tally, doubtful):
    """The ledger has the same end for each job, and besides them only jobs that were sold without an answer."""
    names = ("sold", "settled", "released", "unknown")
    metric = {name: otel.total(f"lemon_async.submissions.{name}") for name in names}
    assert metric == {name: getattr(tally, name) for name in names}
    ended = {entry.task_id: f"{entry.kind}d" for entry in service.ledger.entries}  # the last entry of each
    money = {span.attributes.get("gen_ai.response.id"): span.attributes["lemon_async.money"] for span in otel.jobs}
    sold = {task_id: word for task_id, word in money.items() if task_id is not None}
    assert sold == {task_id: ended[task_id] for task_id in sold}
    words = Counter(sold.values())
    assert metric["sold"] == len(sold) == words.total()
    assert (metric["settled"], metric["released"]) == (words["settled"], words["released"])
    assert metric["unknown"] == doubtful
    hits = {kind: sum(fault.hits for fault in getattr(service, kind)) for kind in ("refusing", "billed", "unbilled")}
    assert len(ended) - len(sold) == hits["billed"]
    assert metric["unknown"] == hits["billed"] + hits["unbilled"]
    assert otel.total("lemon_async.submissions.refused") == hits["refusing"]
    assert otel.by("lemon_async.jobs.in_flight") == {}


def check_requests(otel, service, seen):
    """Each request has a span."""
    arrived = Counter(request.route for request in service.requests)
    names = Counter(span.name for span in otel.spans)
    assert names["POST /v1/images/generations"] == arrived["submit"]
    assert names["GET /v1/tasks/{id}"] == seen[events.Polled] + seen[events.Called] == arrived["poll"]
    assert otel.total("lemon_async.poll.duration") == seen[events.Polled]
    assert names["GET"] == otel.total("lemon_async.download.duration") == seen[events.Downloaded] > ROWS / 20
    sent = sum(otel.total(f"lemon_async.submissions.{name}") for name in ("sold", "refused", "unknown", "not_sent"))
    assert arrived["submit"] == sent


def check_spans(otel, run):
    """The spans of jobs say of their money what the metrics count."""
    spans, jobs = otel.spans, otel.jobs
    money = Counter(span.attributes["lemon_async.money"] for span in jobs)
    for name in ("settled", "released", "unknown"):
        assert money[name] == otel.total(f"lemon_async.submissions.{name}")
    assert money["open"] == 0
    assert money.total() == otel.total("gen_ai.client.operation.duration")
    assert {span.parent.span_id for span in jobs} == {run.context.span_id}
    ids = {span.context.span_id for span in jobs}
    requests = [span for span in spans if span.context.span_id not in ids and span.name != "run"]
    assert {span.parent.span_id for span in requests} <= ids
    assert {span.context.trace_id for span in spans} == {run.context.trace_id}
