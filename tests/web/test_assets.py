"""Files of the package, by name."""

import pytest

from lemon_async._web.assets import Assets
from pages import make_pages, serving


async def test_a_file_is_served_once_until_it_changes():
    """The second request is answered by its ETag alone."""
    async with serving(make_pages()[0]) as ask:
        status, headers, body = await ask("GET", "/_page/static/page.js")
        assert (status, body, headers["Content-Type"]) == (200, b"export {}", "text/javascript; charset=utf-8")
        assert headers["Cache-Control"] == "no-cache"
        again, _, rest = await ask("GET", "/_page/static/page.js", headers={"If-None-Match": headers["ETag"]})
        assert (again, rest) == (304, b"")
        assert (await ask("GET", "/_page/static/icon.png"))[1]["Content-Type"] == "image/png"


@pytest.mark.parametrize("name", ["nothing.js", "..", "page.html", "..%2f__init__.py", "%2e%2e/replies.py", "a%00b"])
async def test_nothing_else_is_served(name):
    async with serving(make_pages()[0]) as ask:
        assert (await ask("GET", f"/_page/static/{name}"))[0] == 404


def test_files_are_read_by_their_kind(tmp_path):
    for name in ("page.js", "page.css", "notes.py", "README.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder").mkdir()
    assert Assets.read(tmp_path) == Assets({"page.js": b"x", "page.css": b"x"})
    assert Assets.read()
