"""The handler of one session."""

import os
import subprocess
import sys
import time

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from lemon_async import GenerateRequest, events
from lemon_async.errors import SessionError
from lemon_async.telemetry import Telemetry

SUBMITTED = events.Submitted(at=0, job=1, request=GenerateRequest("a cat"))


def test_two_sessions_are_refused(otel):
    """Their jobs have the same numbers; sessions one after another are no problem."""
    telemetry = otel.telemetry()
    telemetry(SUBMITTED)
    with pytest.raises(SessionError, match="serves one session: make one for each"):
        telemetry(SUBMITTED)
    telemetry(events.Completed(at=1, job=1, images=1))
    telemetry(SUBMITTED)


def test_handlers_of_two_sessions_add_up(otel):
    """They share instruments."""
    for telemetry in (otel.telemetry(), otel.telemetry()):
        telemetry(SUBMITTED)
    assert otel.total("lemon_async.jobs.in_flight") == 2


@pytest.mark.parametrize("providers", [(), (NoOpTracerProvider(), NoOpMeterProvider())])
def test_without_an_sdk_nothing_happens(providers):
    """The API alone has no-op providers."""
    telemetry = Telemetry(*providers)
    telemetry(SUBMITTED)
    telemetry(events.Saved(at=0, path="cat.png", size_bytes=1))
    telemetry(events.Downloaded(at=0, url="https://cdn.example/1.png"))
    telemetry(events.Completed(at=1, job=1, images=1))


def run(program):
    """Run a program that can import what supports the tests."""
    path = os.pathsep.join(each for each in sys.path if each)
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_missing_extra_says_what_to_install():
    """Without OpenTelemetry's API."""
    program = "import sys; sys.modules['opentelemetry'] = None; import lemon_async.telemetry"
    assert "pip install 'lemon-async[otel]'" in run(program).stderr.splitlines()[-1]


def test_the_sdk_is_never_imported():
    """The program chooses it."""
    program = (
        "import sys; from lemon_async.telemetry import Telemetry; Telemetry()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    assert run(program).stdout.strip() == "[]"


def test_an_sdk_may_be_set_later():
    """Jobs that begin after that are reported."""
    program = """
import time
from opentelemetry import metrics, trace
from lemon_async import GenerateRequest, events
from lemon_async.telemetry import Telemetry
from otel import Observed
telemetry, otel = Telemetry(), Observed()
cat = GenerateRequest("a cat", model="flux-pro")
telemetry(events.Submitted(at=0, job=1, request=cat))
trace.set_tracer_provider(otel.tracer_provider)
metrics.set_meter_provider(otel.meter_provider)
telemetry(events.Completed(at=1, job=1, images=1))
telemetry(events.Submitted(at=time.time() + 3600, job=2, request=cat))
telemetry(events.Completed(at=time.time() + 3601, job=2, images=1))
print(len(otel.jobs), otel.total("lemon_async.submissions.settled"), telemetry.is_idle())
"""
    assert run(program).stdout.strip() == "1 1 False"


def test_telemetry_is_idle_for_a_second_after_it_found_no_sdk(otel):
    """Then the first event of another job makes it look again."""
    telemetry = Telemetry(NoOpTracerProvider(), NoOpMeterProvider())
    assert not telemetry.is_idle()
    telemetry(events.Submitted(at=time.time() + 3600, job=1, request=SUBMITTED.request))
    assert telemetry.is_idle()
    telemetry = Telemetry(NoOpTracerProvider(), NoOpMeterProvider())
    telemetry(SUBMITTED)
    assert not telemetry.is_idle()
    reporting = otel.telemetry()
    reporting(SUBMITTED)
    assert not reporting.is_idle()
