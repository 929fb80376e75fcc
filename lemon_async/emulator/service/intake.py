"""From a paid call to an order: reads it, gets its sources, has them examined. Nothing is sold here."""

from lemon_async.emulator.http.remote import Allowance, Remote
from lemon_async.emulator.http.routes import Call
from lemon_async.emulator.pictures.blob_store import Source
from lemon_async.emulator.service.admission import Admission
from lemon_async.emulator.service.edits import Draft, FromFile, FromUpload, Origin, finish, read_edit, read_variation
from lemon_async.emulator.service.files import Files
from lemon_async.emulator.service.rules import Order, read_order


class Intake:
    """Accepts or refuses what clients ask for."""

    def __init__(self, admission: Admission, files: Files, remote: Remote) -> None:
        self._admission = admission
        self._files = files
        self._remote = remote

    async def read(self, call: Call) -> Order:
        """Everything about a paid call, sources included.

        Raises:
            Problem: 400, 404 or 413.
        """
        if call.endpoint == "submit":
            return read_order(call.body)
        draft = read_variation(call) if call.endpoint == "vary" else read_edit(call)
        return await self._complete(draft, call.key)

    async def _complete(self, draft: Draft, key: str) -> Order:
        allowance = Allowance()
        sources = [await self._source(origin, draft.order, key, allowance) for origin in draft.origins]
        if draft.mask is None:
            return finish(draft, sources, None)
        return finish(draft, sources, await self._admission.admit(draft.mask.upload.file, draft.mask.param))

    async def _source(self, origin: Origin, order: Order, key: str, allowance: Allowance) -> Source:
        if isinstance(origin, FromUpload):
            return await self._admission.admit(origin.upload.file, origin.param)
        if isinstance(origin, FromFile):
            return self._files.source(origin.file_id, key=key, model=order.model, param=origin.param)
        with await self._remote.fetch(origin.url, origin.param, allowance) as file:
            return await self._admission.admit(file, origin.param)
