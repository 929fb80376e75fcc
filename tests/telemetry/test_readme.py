"""The reference: its example runs as it stands, a real Prometheus exporter is scraped, and it names everything."""

import ast
import re
import urllib.request
from inspect import getsource
from pathlib import Path

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

import lemon_async.telemetry
from lemon_async import GenerateRequest, events
from lemon_async.emulator import Emulator
from lemon_async.errors import SubmissionUnknown, TaskFailed
from lemon_async.telemetry import Telemetry, attributes, instruments

README = Path(lemon_async.telemetry.__file__).with_name("README.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
QUERIES = re.findall(r"^```promql\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def scrape(server):
    """Return what a server of metrics says over HTTP."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=60) as response:
        return response.read().decode()


def stop(server, thread, *providers):
    server.shutdown()
    server.server_close()
    thread.join()
    for provider in providers:
        provider.shutdown()


async def test_example_runs_and_is_scraped(monkeypatch, tmp_path):
    """One picture was sold and billed; only the port is another one here."""
    monkeypatch.chdir(tmp_path)
    names = {}
    program = EXAMPLE.replace("start_http_server(9464", "served = start_http_server(0")
    async with Emulator(speed=6000) as service:
        monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", service.api_key)
        await eval(compile(program, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        text = scrape(names["served"][0])
        stop(*names["served"], names["meters"], names["tracers"])
        assert service.api_key not in text
    for name in ("sold", "settled"):
        assert re.search(
            rf'^lemon_async_submissions_{name}_total{{.*gen_ai_request_model="flux-pro".*}} 1\.0$', text, re.MULTILINE
        )
    assert re.search(r'^gen_ai_client_operation_duration_seconds_bucket{.*le="900(\.0)?".*} 1\.0$', text, re.MULTILINE)
    assert (tmp_path / "cat.png").exists()


def test_queries_name_what_prometheus_has():
    """Names and attributes as the exporter writes them."""
    meters = MeterProvider([PrometheusMetricReader()])
    telemetry = Telemetry(meter_provider=meters)
    request = GenerateRequest("a cat", model="flux-pro")
    unknown = SubmissionUnknown(request=request, fingerprint="00", reason="no")
    telemetry(events.Submitted(at=0, job=1, request=request))
    telemetry(events.OutcomeUnknown(at=0, job=1, error=unknown))
    telemetry(events.Accepted(at=0, job=1, status="pending"))
    telemetry(events.Failed(at=0, job=1, error=TaskFailed(reason="no"), money="settled"))
    server, thread = start_http_server(0, addr="127.0.0.1")
    text = scrape(server)
    stop(server, thread, meters)
    words = {word for query in QUERIES for word in re.findall(r"\b(?:lemon_async|gen_ai|error)_\w+", query)}
    assert len(words) >= 5
    assert {word for word in words if not re.search(rf"\b{word}[{{=]", text)} == set()


def test_readme_names_every_metric_and_attribute():
    """Those of the code."""
    source = getsource(attributes) + getsource(instruments).replace('name + "', 'name + "lemon_async.submissions.')
    names = set(re.findall(r'"((?:lemon_async|gen_ai|http|url|server|error)\.[\w.]*\w)"', source))
    named = set(re.findall(r"`([\w.]+)`", README))
    assert len(names) > 25
    assert names - named == set()
