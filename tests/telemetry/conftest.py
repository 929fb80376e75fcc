"""The real SDK, which must have nothing to complain about."""

import logging

import pytest

from otel import Observed


@pytest.fixture
def otel():
    return Observed()


@pytest.fixture(autouse=True)
def no_complaints(caplog):
    """The SDK only logs what is wrong: spans that were ended before, values of invalid types, names used twice."""
    yield
    records = [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in records if record.name.startswith("opentelemetry")] == []
