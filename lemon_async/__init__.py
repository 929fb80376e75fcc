"""asyncio-native client for the LemonData image API.

    async with LemonSession() as lemon:
        images = await lemon.generate("a white cat", model="flux-pro")
        await images[0].save("cat.png")

A paid request is never sent twice unless it was provably not sold; polling never loses a job; the key stays with the
API. `lemon_async.emulator` is the service on this machine, for trying, developing and testing without money.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lemon_async._public import *  # noqa: F403 - its `__all__` says which


def __getattr__(name: str) -> Any:
    """Import the public names when the first one is used.

    The emulator's server, pytest and the start of the command need none of them, and aiohttp takes a moment: a command
    that is interrupted in that moment must already be able to end without a traceback.
    """
    if name == "__all__" or not name.startswith("_"):
        public = import_module("lemon_async._public")
        if name == "__all__" or name in public.__all__:
            return getattr(public, name)
    if name in {"errors", "requests", "sheet", "types"}:
        return import_module(f"lemon_async.{name}")
    if name == "__version__":
        return import_module("lemon_async._version").__version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*import_module("lemon_async._public").__all__]
