"""The public names; `lemon_async.distributed` imports them when the first one is used."""

from lemon_async.distributed.driver import run_batch
from lemon_async.distributed.generator import LemonGenerator
from lemon_async.distributed.summary import BatchSummary

__all__ = ["BatchSummary", "LemonGenerator", "run_batch"]
