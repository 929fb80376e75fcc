"""The LemonData image API on this machine: a real HTTP server for tests, demos and offline work.

```python
from contextlib import suppress
from lemon_async import LemonSession, SubmissionUnknown
from lemon_async.emulator import Emulator, Reset, Status

async with Emulator(speed=60) as emu, LemonSession(emu.api_key, base_url=emu.base_url) as lemon:  # or any client
    emu.fault("submit", Reset("response_head"), prompt="lost")  # accepted, but the response is lost
    emu.fault("poll", Status(502, "html"), times=3)
    with suppress(SubmissionUnknown):
        await lemon.generate("lost", model="flux-pro")
    await lemon.generate("a cat", model="flux-pro")
    assert emu.ledger.sold == {"lost": 1, "a cat": 1}  # nothing is paid twice
```

A minute of the service lasts a second here. Every response announces that in its `X-Emulator-Speed` header, so that a
`LemonSession` on the same machine polls sixty times as often.

To read the code, begin with `app`, which puts the parts together: `service` is the API without HTTP, `http` the server
in front of it, `pictures` what it draws, `web` the page that shows it. Faults are described in `http.faults`, their
effects in `actions`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lemon_async.emulator._public import *  # noqa: F403 - its `__all__` says which


def __getattr__(name: str) -> Any:
    """Import the public names when the first one is used: pytest loads `plugin`, in this folder, whenever it starts."""
    if name == "__all__" or not name.startswith("_"):
        public = _import_public()
        if name == "__all__" or name in public.__all__:
            return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_import_public().__all__]


def _import_public() -> Any:
    try:
        return import_module("lemon_async.emulator._public")
    except AttributeError as fault:  # Python would only say that there is no such name
        raise ImportError(f"lemon_async.emulator cannot be imported: {fault}") from fault
