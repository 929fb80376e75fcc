"""Check the extra headers of a session, which go to the API's origin with every request.

They may hold the key of a gateway, so no message quotes a value, or an object given in place of a name.
"""

import re
from collections.abc import Mapping

__all__ = ["find_header_faults"]

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 `token`
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_OURS = "is set by the library"
_CONNECTION = "belongs to the connection"
_COOKIE = "is never sent: a session has no cookies"
_MEANING = "would change the meaning of a response"
_REPEAT = "would be the same for all requests, so that the service could take different ones for one"
_RESERVED: Mapping[str, str] = {
    "authorization": "carries the key, which is passed as api_key",
    **dict.fromkeys(("accept", "accept-encoding", "user-agent"), _OURS),
    **dict.fromkeys(("connection", "expect", "host", "keep-alive", "proxy-connection"), _CONNECTION),
    **dict.fromkeys(("te", "trailer", "transfer-encoding", "upgrade"), _CONNECTION),
    **dict.fromkeys(("cookie", "cookie2", "set-cookie"), _COOKIE),
    **dict.fromkeys(("idempotency-key", "x-idempotency-key"), _REPEAT),
    "range": _MEANING,
}
_RESERVED_PREFIXES: Mapping[str, str] = {"content-": _OURS, "if-": _MEANING}


def find_header_faults(headers: object) -> list[str]:
    """Return every fault of extra headers."""
    if not isinstance(headers, Mapping):
        return ["must be a mapping of names to values, such as {'X-Team': 'pictures'}"]
    faults: list[str] = []
    seen: set[str] = set()
    for number, (name, value) in enumerate(headers.items(), 1):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            faults.append(f"the name of entry {number} must be letters, digits and hyphens, such as X-Team")
            continue
        reason = _reserved(name.lower())
        if reason is not None:
            faults.append(f"{name} cannot be set: it {reason}")
        elif name.lower() in seen:
            faults.append(f"{name} is given twice")
        elif not isinstance(value, str) or not _VALUE.fullmatch(value):
            line = "one line of printable ASCII text, not empty, without spaces around it"
            faults.append(f"the value of {name} must be {line}")
        seen.add(name.lower())
    return faults


def _reserved(name: str) -> str | None:
    """Return why a header cannot be set, if it is reserved."""
    by_prefix = (reason for prefix, reason in _RESERVED_PREFIXES.items() if name.startswith(prefix))
    return _RESERVED.get(name) or next(by_prefix, None)
