"""asyncio client for the LemonData image API.

```python
from lemon_async import LemonSession

async with LemonSession() as lemon:
    images = await lemon.generate("a white cat", model="flux-pro")
    await images[0].save("cat.png")
```

A paid request is sent again only if the service provably did not accept it; polling never loses a job; the key goes to
the API only. `lemon_async.emulator` emulates the service on this machine, for development and tests without a key.

Files to touch for (the tests of `_pace/retry.py` are in `tests/pace/test_retry.py`, and so on for every module)

* a model family: `_api/families.py`, `cli/fields.py`, `emulator/service/model_families.py`;
* a request field: `requests.py`, its rule in `_api/families.py`, and the other two files of a model family;
* a retry rule: `_pace/retry.py`, and `_api/error_responses.py` if the failure is new;
* an event: `events.py`, `_http/emitter.py` or, for paid requests, `_http/job_events.py`, and where it happens;
* a span or a metric: `telemetry/spans.py` or `telemetry/metrics.py`, and `telemetry/attributes.py`;
* a check of results: `_formats/pictures.py` for bytes, `_api/job_responses.py` for JSON;
* an option of the command: `cli/options.py` and where its value goes, `cli/runner.py` or `cli/outputs.py`;
* what may happen to a row of a batch: `batch/states.py`, `batch/store/ledger.py` for its money, `batch/outcome.py`;
* what the pages show: `emulator/web/studio.py` or `cli/batch/watched_batch.py`, and the scripts in `_web/static/`.

To read the code, begin with `session.py`, whose methods are what users call, and `_tasks/submission.py` and
`_tasks/poller.py`, which submit jobs and wait for them. Each folder's `__init__.py` says what to read next; that of
`batch`, where the durable batch begins. Imports point down: session, `batch`, `_tasks`, `_uploads`, `_images`, `_http`,
then the pure rooms `_display`, `_pace`, `_api` and `_formats`. The command uses the public API only, and the emulator
shares no code with the client.

Start-up is short because a room that many programs never enter (`batch`, `_display`, uploads, events) is imported by
the function that enters it, and nowhere before; `tests/test_layers.py` lists them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lemon_async._public import *  # noqa: F403 - its `__all__` says which


def __getattr__(name: str) -> Any:
    """Import the public names when the first one is used: pytest and `lemon-async --help` start without them."""
    if name in {"batch", "emulator", "errors", "events", "requests", "sheet", "types"}:
        return import_module(f"lemon_async.{name}")
    if name == "__all__" or not name.startswith("_"):
        public = _import_public()
        if name == "__all__" or name in public.__all__:
            return getattr(public, name)
    if name == "__version__":
        return import_module("lemon_async._version").__version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_import_public().__all__]


def _import_public() -> Any:
    try:
        return import_module("lemon_async._public")
    except AttributeError as fault:  # Python would only say that there is no such name
        raise ImportError(f"lemon_async cannot be imported: {fault}") from fault
