"""The files of pages: HTML, style sheets and scripts in the package, each served under its own name only."""

import hashlib
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Self

from aiohttp import web
from attrs import frozen

from lemon_async._web.replies import PageError, file_reply

_CONTENT_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
}
# The browser asks each time whether its copy is still right: after an update of the package, it is not.
_REVALIDATED = "no-cache"


@frozen
class Assets:
    """Files by name, read once."""

    _files: Mapping[str, bytes]

    @classmethod
    def read(cls, folder: Traversable | None = None) -> Self:
        """Read the files of the package, or those of another folder."""
        folder = folder or files(__package__) / "static"
        known = {file.name: file for file in folder.iterdir() if _suffix(file.name) in _CONTENT_TYPES}
        return cls({name: file.read_bytes() for name, file in known.items()})

    def page(self, name: str, meta: Mapping[str, str]) -> web.Response:
        """Return a page with a `<meta>` element for each entry of `meta`."""
        elements = "".join(f'<meta name="{escape(key)}" content="{escape(value)}">\n' for key, value in meta.items())
        text = self._files[name].decode().replace("</head>", f"{elements}</head>", 1)
        response = file_reply(text.encode(), "text/html")
        response.charset = "utf-8"
        return response

    def reply(self, request: web.BaseRequest, name: str) -> web.Response:
        """Return a file, or 304 if the browser has it.

        Raises:
            PageError: 404, there is no such file.
        """
        content = self._files.get(name)
        if content is None or _suffix(name) == "html":
            raise PageError(404, "there is no such file")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if tag in request.headers.get("If-None-Match", ""):
            response = web.Response(status=304, headers={"Cache-Control": _REVALIDATED})
        else:
            response = file_reply(content, _CONTENT_TYPES[_suffix(name)], _REVALIDATED)
            if response.content_type.startswith("text/"):
                response.charset = "utf-8"
        response.headers["ETag"] = tag
        return response


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
