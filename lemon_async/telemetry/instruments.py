"""The instruments of all metrics, with their names, units and bucket boundaries; README.md explains each."""

from opentelemetry.metrics import Counter, Histogram, MeterProvider, UpDownCounter, get_meter

from lemon_async._version import __version__

__all__ = ["Instruments"]

_JOB_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 450, 600, 900)
_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_WAIT_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)


class Instruments:
    """The instruments; several sessions may make them from one provider, and then share them.

    Args:
        provider: Where they come from; by default the global one.
    """

    sold: Counter
    settled: Counter
    released: Counter
    unknown: Counter
    refused: Counter
    not_sent: Counter
    in_flight: UpDownCounter
    rows: UpDownCounter
    retries: Counter
    rate_limited: Counter
    downloaded: Counter
    duration: Histogram
    poll: Histogram
    download: Histogram
    wait: Histogram

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = get_meter("lemon_async", __version__, provider)

        def seconds(name: str, bounds: tuple[float, ...], description: str) -> Histogram:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=bounds)

        counter = meter.create_counter
        gauge = meter.create_up_down_counter
        name = "lemon_async.submissions."
        self.sold: Counter = counter(name + "sold", "{request}", "Paid requests that the service accepted.")
        self.settled: Counter = counter(name + "settled", "{request}", "Sold requests that were billed.")
        self.released: Counter = counter(name + "released", "{request}", "Sold requests that ended at no cost.")
        self.unknown: Counter = counter(name + "unknown", "{request}", "Paid requests with an unknown outcome.")
        self.refused: Counter = counter(name + "refused", "{request}", "Paid requests that the service refused.")
        self.not_sent: Counter = counter(name + "not_sent", "{request}", "Paid requests that could not be sent.")
        self.in_flight: UpDownCounter = gauge("lemon_async.jobs.in_flight", "{job}", "Jobs that have not ended here.")
        self.rows: UpDownCounter = gauge("lemon_async.batch.rows", "{row}", "Rows of open batches.")
        self.retries: Counter = counter("lemon_async.retries", "{retry}", "Requests that are sent again.")
        self.rate_limited: Counter = counter("lemon_async.rate_limit.refusals", "{response}", "Responses 429.")
        self.downloaded: Counter = counter("lemon_async.download.io", "By", "Bytes of pictures that were fetched.")
        self.duration: Histogram = seconds("gen_ai.client.operation.duration", _JOB_S, "GenAI operation duration.")
        self.poll: Histogram = seconds("lemon_async.poll.duration", _REQUEST_S, "Duration of polls.")
        self.download: Histogram = seconds("lemon_async.download.duration", _REQUEST_S, "Duration of downloads.")
        self.wait: Histogram = seconds("lemon_async.rate_limit.wait", _WAIT_S, "Waiting for the rate limit.")
