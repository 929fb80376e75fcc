"""Fill journals with rows in any state, without a session."""

import hashlib
import io

from PIL import Image

from journals import accept, new_row
from lemon_async.batch.records import Change, SavedPicture
from lemon_async.batch.states import Transition


def picture(kind="PNG", size=(32, 32)):
    """Return the bytes of a picture that no encoder can shrink to nothing."""
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).save(buffer, kind)
    return buffer.getvalue()


async def add(journal, key, *, columns=None, **request):
    """Add a row."""
    fields = {"model": "flux-pro", "operation": "generate", "prompt": f"a {key}", **request}
    await journal.add([new_row(key, columns=columns, **fields)])


async def sell(journal, key, *, task="ldtask_1", **facts):
    """Have a row sold."""
    await journal.record(Change(key=key, transition=Transition.INTEND, fingerprint="f00d", **facts))
    await journal.record(accept(key, task))


async def finish(journal, key, folder, *contents, task="ldtask_1", cost_usd=None, names=None):
    """Have a row sold and its pictures saved in a folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = contents or (picture(),)
    paths = [folder / name for name in names or [f"{key}-{n}.png" for n in range(len(contents))]]
    saved = []
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
        saved.append(SavedPicture(str(path), len(content), hashlib.sha256(content).hexdigest()))
    await sell(journal, key, task=task)
    await journal.record(Change(key=key, transition=Transition.SAVE, pictures=tuple(saved), cost_usd=cost_usd))
    return paths
