"""The durable batch: rows that are bought at most once, and survive `kill -9`.

```python
from lemon_async import LemonSession

async with LemonSession() as lemon:
    async with lemon.batch(
        "run.db", "rows.csv", key="sku", save="out/{key}", budget_usd=50, price_usd=0.04
    ) as batch:
        async for outcome in batch:
            print(outcome.key, outcome.status, outcome.paths)
```

To read the code, begin with `states.py`, which says what may happen to a row, and `journal.py`, what every store
promises; `opening.py`, `threaded_journal.py` and `store/` keep it in a file or in PostgreSQL. `rows/` reads and checks
the rows, `running/` pushes them through `LemonSession.map` and saves their pictures, `exports/` writes datasets and
tables, and `watching/` shows a journal to other processes. `batch.py` connects these. All of it uses the public names
of the package, and few others (`tests/test_layers.py` lists them).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lemon_async.batch._public import *  # noqa: F403 - its `__all__` says which


def __getattr__(name: str) -> Any:
    """Import the public names when the first one is used."""
    if name == "__all__" or not name.startswith("_"):
        public = _import_public()
        if name == "__all__" or name in public.__all__:
            return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_import_public().__all__]


def _import_public() -> Any:
    try:
        return import_module("lemon_async.batch._public")
    except AttributeError as fault:  # Python would only say that there is no such name
        raise ImportError(f"lemon_async.batch cannot be imported: {fault}") from fault
