"""The one way into the vault: off the event loop, with a refusal that names the field."""

from typing import IO

from attrs import frozen

from lemon_async.emulator.pictures.blob_store import BlobStore, NoPicture, Source
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.problems import Complaint, Problem


@frozen
class Admission:
    """Takes files that clients send."""

    _studio: Renderer
    _vault: BlobStore

    async def admit(self, file: IO[bytes], param: str) -> Source:
        """Keep a file and examine it; the caller may close his own afterwards.

        Raises:
            Problem: 400, it is no picture.
        """
        try:
            return await self._studio.run(self._vault.admit, file)
        except NoPicture as error:
            raise Problem.of([Complaint(param, str(error), "invalid_image")]) from error
