"""Plain data about pictures: files that clients sent, and descriptions of pictures to draw."""

from attrs import field, frozen

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}


class InvalidImage(ValueError):
    """The file cannot be used as a picture; the message follows the name of its field, e.g. "must be a PNG"."""


@frozen
class Blob:
    """A stored file; blobs with equal contents are equal."""

    digest: str
    size_bytes: int
    path: str = field(eq=False)


@frozen
class SourceImage:
    """A picture that a client sent, with the properties found when it was decoded."""

    blob: Blob
    format: str
    width: int
    height: int
    has_alpha: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height


@frozen
class Picture:
    """A picture to draw or, with sources, to edit. Equal pictures have equal bytes."""

    prompt: str
    width: int
    height: int
    index: int = 0
    seed: int = 0
    format: str = "png"
    compression: int | None = None
    is_transparent: bool = False
    sources: tuple[SourceImage, ...] = ()
    mask: SourceImage | None = None

    @property
    def content_type(self) -> str:
        """The media type of the file."""
        return CONTENT_TYPES[self.format]
