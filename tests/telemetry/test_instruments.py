"""The instruments of all metrics."""

from lemon_async.telemetry.instruments import Instruments


def test_instruments_may_be_made_twice(otel):
    """The SDK logs a warning about those that differ; the fixture looks for that."""
    first, second = Instruments(otel.meter_provider), Instruments(otel.meter_provider)
    assert vars(first).keys() == vars(second).keys()
    first.wait.record(700)
    second.wait.record(1)
    (point,) = otel.points("lemon_async.rate_limit.wait").values()
    assert point.count == 2
    assert point.explicit_bounds[-1] == 900
