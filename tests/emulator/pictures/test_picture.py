"""Pictures and source files are plain, hashable data."""

from lemon_async.emulator.pictures.picture import CONTENT_TYPES, EXTENSIONS, Blob, Picture, SourceImage


def test_every_format_has_a_content_type_and_an_extension():
    """Result links end in the extension and are served with the content type."""
    assert CONTENT_TYPES.keys() == EXTENSIONS.keys() == {"png", "jpeg", "webp"}
    assert {format_: Picture("p", 1, 1, format=format_).content_type for format_ in CONTENT_TYPES} == CONTENT_TYPES


def test_sources_with_equal_contents_make_equal_pictures():
    """Pictures are keys of the cache, so the path of a blob does not count."""
    sources = [SourceImage(Blob("digest", 7, path), "png", 3, 5, has_alpha=False) for path in ("a", "b")]
    first, second = (Picture("p", 1, 1, sources=(source,)) for source in sources)
    assert first == second
    assert hash(first) == hash(second)
    assert sources[0].size == (3, 5)
