"""The request log and the ledger as pages of lists, newest first."""

import asyncio
from typing import Any

from attrs import frozen

from lemon_async.emulator.clock import Clock
from lemon_async.emulator.http.endpoints import Endpoints
from lemon_async.emulator.http.handler import RecordedRequest, RequestHandler
from lemon_async.emulator.http.recordings import Recording, Recordings
from lemon_async.emulator.http.routes import match_request
from lemon_async.emulator.service.ledger import Ledger, LedgerEntry
from lemon_async.emulator.web import replay
from lemon_async.emulator.web.ledger_file import entry_json

PAGE = 60

# Looking at a hundred thousand of them takes a while, in which others are answered.
_AT_ONCE = 5_000


@frozen
class RequestLog:
    """Recorded requests, as a page shows them."""

    handler: RequestHandler
    recordings: Recordings
    endpoints: Endpoints
    clock: Clock

    async def page(self, *, route: str, status: str, before: int | None) -> dict[str, Any]:
        """Return the newest requests before a number; `status` is the beginning of a status, e.g. `5`."""
        requests = tuple(self.handler.requests)
        found: list[RecordedRequest] = []
        for end in range(len(requests), 0, -_AT_ONCE):
            chunk = requests[max(0, end - _AT_ONCE) : end]
            found += [
                request
                for request in reversed(chunk)
                if (not route or request.route == route)
                and (not status or (request.status is not None and str(request.status).startswith(status)))
            ]
            await asyncio.sleep(0)
        first = 0 if before is None else next((at for at, one in enumerate(found) if one.number < before), len(found))
        shown = found[first : first + PAGE]
        return {
            "items": [self._item(request) for request in shown],
            "total": len(found),
            "next": shown[-1].number if first + PAGE < len(found) else None,
        }

    def details(self, number: int, origin: str) -> dict[str, Any] | None:
        """Return one request, with programs that send it again; None if it is not in the log."""
        requests = self.handler.requests
        index = number - requests[0].number if requests else -1
        if not 0 <= index < len(requests):
            return None
        request = requests[index]
        return {**self._item(request), **self._replay(request, origin)}

    def _replay(self, request: RecordedRequest, origin: str) -> dict[str, Any]:
        call = match_request(request.method, request.path)
        recording = self.recordings.find(request.number)
        programs: tuple[str | None, str | None] = None, None
        if call.endpoint == "poll":
            programs = replay.curl_poll(origin, request.path), replay.python_poll(origin, call.args["id"])
        elif recording is not None:
            is_checked = request.status != 400  # the client would refuse what the service has refused
            programs = (
                replay.curl(origin, request.path, recording),
                replay.python(origin, recording, is_checked=is_checked),
            )
        return {
            "curl": programs[0],
            "python": programs[1],
            "body": recording and _body(recording),
            "is_form": recording is not None and recording.is_form,
        }

    def _item(self, request: RecordedRequest) -> dict[str, Any]:
        recording = self.recordings.find(request.number)
        call = match_request(request.method, request.path)
        facts = recording or (self.endpoints.facts(call) if call.route in {"poll", "cancel", "cdn"} else None)
        return {
            "number": request.number,
            "at": self.clock.unix_at(request.at_s),
            "route": request.route,
            "method": request.method,
            "path": request.path,
            "status": request.status,
            "model": facts and facts.model,
            "prompt": facts and facts.prompt,
            "is_replayable": call.endpoint == "poll" if recording is None else recording.is_whole,
        }


def _body(recording: Recording) -> Any:
    fields = recording.read_fields()
    if not recording.is_form:
        return fields
    files = [{"name": name, "filename": file} for name, file in recording.files]
    return {"fields": fields, "files": files}


async def ledger_page(ledger: Ledger, clock: Clock, *, kind: str, model: str, before: int | None) -> dict[str, Any]:
    """Return the newest entries before a number, and the sums of all that the filter leaves."""
    sums: dict[str, dict[str, Any]] = {}
    for (one, other), found in ledger.sums.items():
        if kind in {"", one} and model in {"", other}:
            of_kind = sums.setdefault(one, {"count": 0, "amount_usd": 0.0})
            of_kind["count"] += found.count
            of_kind["amount_usd"] += found.amount_usd
    entries: list[LedgerEntry] = []
    at = ledger.count + 1 if before is None else min(before, ledger.count + 1)
    while at > 1 and len(entries) <= PAGE:
        chunk = ledger.page(at, _AT_ONCE)
        entries += [entry for entry in chunk if kind in {"", entry.kind} and model in {"", entry.model}]
        at = chunk[-1].seq
        await asyncio.sleep(0)
    return {
        "items": [entry_json(entry, clock) for entry in entries[:PAGE]],
        "total": sum(found["count"] for found in sums.values()),
        "next": entries[PAGE - 1].seq if len(entries) > PAGE else None,
        "sums": sums,
    }
