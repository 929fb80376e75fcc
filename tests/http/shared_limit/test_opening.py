"""A URL names the store of a shared rate limit."""

import subprocess
import sys

import pytest

from lemon_async._http.shared_limit.opening import open_store, store_name
from lemon_async.errors import ContractError

OPTIONS = {"account": "a" * 16, "rpm": 60, "interval_s": 1.0, "horizon_s": 30.0, "on_pause": print}


def test_names_have_no_credentials():
    """Neither user nor password nor options appear, even if a password is not percent-encoded."""
    for url, name in {
        "redis://cache:6379/1": "redis://cache:6379/1",
        "redis://:s3cret@cache/0?db=2": "redis://cache/0",
        "rediss://user:s3/cr#et@cache": "rediss://cache",
        "postgresql://user:s3cret@one:5432,two/limits?sslmode=require": "postgresql://one:5432,two/limits",
        "postgresql:///limits?password=s3cret": "postgresql:///limits",
        "postgresql://host/limits?password=s3@cret": "postgresql://...",
        "redis://:s3?cr@et@cache": "redis://...",
        "unix:///run/redis.sock?password=s3cret": "unix:///run/redis.sock",
    }.items():
        assert store_name(url) == name


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("http://s3cret", "must be a URL that begins with redis://"),
        ("s3cret", "must be a URL that begins with redis://"),
        ("redis://:s3/cret@cache", "path is the number of a database"),
        ("redis://:s3cret@cache/limits", "path is the number of a database"),
        ("redis://:s3cret@cache:port", "percent-encode"),
        ("valkeys://:s3cret@cache?patience=3", "percent-encode"),
        ("postgresql://user:s3/cret@host/limits", "percent-encode"),
        ("postgresql://user:s3cret@host?patience=3", "percent-encode"),
    ],
)
def test_invalid_urls_are_refused_without_quoting_them(url, advice):
    with pytest.raises(ContractError, match=advice) as refusal:
        open_store(url, **OPTIONS)
    assert "s3" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_all_schemes_are_known():
    """A store connects when it is first used, so none of these servers is asked for."""
    for url in (
        "redis://h",
        "rediss://h",
        "valkey://h",
        "valkeys://h",
        "unix:///r",
        "postgres://h",
        "postgresql://h/d",
    ):
        assert open_store(url, **OPTIONS).name == url


def test_missing_drivers_are_named_with_the_command_that_installs_them():
    """The import happens when a store is opened, in a process that has not imported the driver."""
    code = (
        "import sys\n"
        "from lemon_async._http.shared_limit.opening import open_store\n"
        "sys.modules[sys.argv[2]] = None\n"
        "try:\n"
        "    open_store(sys.argv[1], account='a', rpm=1, interval_s=1, horizon_s=1, on_pause=print)\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    for url, module, advice in (
        ("redis://h", "redis", "shared_limit: needs redis-py: pip install 'lemon-async[redis]'"),
        ("postgresql://h", "psycopg", "shared_limit: needs psycopg: pip install 'lemon-async[postgres]'"),
    ):
        run = subprocess.run([sys.executable, "-c", code, url, module], capture_output=True, text=True, check=True)
        assert run.stdout.startswith(advice)
