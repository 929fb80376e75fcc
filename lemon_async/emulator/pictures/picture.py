"""What a picture is, without drawing it."""

from attrs import frozen

from lemon_async.emulator.pictures.blob_store import Source

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}


@frozen
class Picture:
    """What to draw, or with sources: to edit. Equal pictures have equal bytes."""

    prompt: str
    width: int
    height: int
    index: int = 0
    seed: int = 0
    format: str = "png"
    compression: int | None = None
    is_transparent: bool = False
    sources: tuple[Source, ...] = ()
    mask: Source | None = None

    @property
    def content_type(self) -> str:
        """The media type of the file."""
        return CONTENT_TYPES[self.format]
