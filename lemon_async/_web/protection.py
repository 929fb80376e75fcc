"""Refuse requests that other pages make a browser send.

A foreign page can send requests here, although it cannot read the responses. Two things tell it apart: the browser
names its origin, and it has not seen the token, which only the page itself contains.
"""

import hmac
import secrets

from aiohttp import web
from attrs import field, frozen

from lemon_async._web.host_header import AllowedHosts
from lemon_async._web.replies import PageError

TOKEN_HEADER = "X-Page-Token"  # noqa: S105 - the name of a header

_READING = {"GET", "HEAD"}
_FOREIGN = {"cross-site", "same-site"}


@frozen
class Protection:
    """What a request must show; the token is new for each server."""

    hosts: AllowedHosts
    token: str = field(factory=secrets.token_urlsafe, init=False, repr=False)

    def check(self, request: web.BaseRequest) -> None:
        """Check a request before anything is done about it.

        Raises:
            PageError: 421 the Host is not served here; 403 another page made the browser send this.
        """
        host = request.headers.get("Host", "")
        if not self.hosts.accept(host):
            raise PageError(421, f"this host is not served here: {host[:80]}")
        # A link may lead to the page itself from anywhere, but only the page uses what belongs to it.
        if request.path != "/" and request.headers.get("Sec-Fetch-Site") in _FOREIGN:
            raise PageError(403, "another page sent this request")
        if request.method in _READING:
            return
        if request.headers.getall("Origin", []) not in ([f"http://{host}"], [f"https://{host}"]):
            raise PageError(403, "changes need an Origin header that names this server")
        if not hmac.compare_digest(
            request.headers.get(TOKEN_HEADER, "").encode("utf-8", "surrogateescape"), self.token.encode()
        ):
            raise PageError(403, f"changes need the token of the page in {TOKEN_HEADER}; reload the page")
