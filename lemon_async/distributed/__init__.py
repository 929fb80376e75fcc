"""The durable batch on Ray: many workers, one journal, and one account.

```python
import os
from lemon_async.distributed import run_batch

journal = os.environ["JOURNAL"]  # such as postgresql://db/shop
summary = await run_batch("rows.csv", key="sku", journal=journal, save="shared/{key}", workers=8)
```

Ray starts the workers and starts them again; what may be bought, and by whom, the journal says (`lemon_async.batch`).
Needs `pip install 'lemon-async[ray]'`. To read the code, begin with `driver.py` and `worker.py`, or with
`generator.py`; README.md here says how to run it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lemon_async.distributed._public import *  # noqa: F403 - its `__all__` says which


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
        return import_module("lemon_async.distributed._public")
    except AttributeError as fault:  # Python would only say that there is no such name
        raise ImportError(f"lemon_async.distributed cannot be imported: {fault}") from fault
