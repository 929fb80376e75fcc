"""Write responses that aiohttp cannot send: incomplete, dripping, malformed, or none at all."""

import asyncio
from typing import Literal

from attrs import frozen

from lemon_async.emulator.actions import Blackhole, Cut, Drip, Garbage, Reset
from lemon_async.emulator.http.fault_protocol import FaultProtocol
from lemon_async.emulator.http.faults import Fault
from lemon_async.emulator.http.replies import raw_head
from lemon_async.emulator.service.messages import Reply

# What happens to the connection after the last byte: an orderly close, FIN from our side, RST, or nothing.
Ending = Literal["close", "end", "abort", "hold"]

_GARBAGE = bytes(range(256)) * 2
_DRIPS_PER_S = 20


@frozen
class RawResponse:
    """Bytes to send past aiohttp, the pace of the body, and what happens to the connection afterwards."""

    ending: Ending
    head: bytes = b""
    body: bytes = b""
    bytes_per_s: float | None = None
    status: int | None = None


def plan_raw_response(reply: Reply, fault: Fault) -> RawResponse | None:
    """Return how `fault` changes the bytes of `reply`; None if aiohttp can send it.

    The first rule that applies: no response (Blackhole), bytes that are not HTTP (Garbage), a break at some point, a
    whole head with a body that is cut, drips or has another length than its head says.
    """
    if fault.find(Blackhole):
        return RawResponse("hold")
    if fault.find(Garbage):
        return RawResponse("end", _GARBAGE)
    if fault.connection_break is not None:
        return _broken(reply, fault)
    cut, drip = fault.find(Cut), fault.find(Drip)
    # aiohttp would correct a wrong length, or leave bytes behind for the next response.
    if cut is None and drip is None and "Content-Length" not in reply.headers:
        return None
    return RawResponse(
        "close" if cut is None else "abort",
        raw_head(reply),
        reply.body if cut is None else reply.body[: cut.at_byte],
        drip.bytes_per_s if drip else None,
        reply.status,
    )


def _broken(reply: Reply, fault: Fault) -> RawResponse:
    ending: Ending = "abort" if fault.find(Reset) else "end"
    head = raw_head(reply)
    match fault.connection_break and fault.connection_break.at:
        case "response_head":
            return RawResponse(ending, head[: len(head) // 2])
        case "response_body":
            return RawResponse(ending, head, reply.body[: len(reply.body) // 2], status=reply.status)
        case _:  # request_end: at the earlier points, there is no reply yet
            return RawResponse(ending)


async def write_raw_response(protocol: FaultProtocol, raw: RawResponse) -> None:
    """Send the bytes and wait until the connection is closed.

    Cancelling it, as aiohttp does when the client disconnects, stops the sending immediately.
    """
    await protocol.send(raw.head)
    if raw.bytes_per_s is None:
        await protocol.send(raw.body)
    else:
        await _drip(protocol, raw.body, raw.bytes_per_s)
    if raw.ending == "abort":
        await protocol.wait_acknowledged()
        protocol.abort()
    elif raw.ending == "end":
        protocol.end()
    elif raw.ending == "close":
        protocol.close()
    await protocol.wait_closed()


async def _drip(protocol: FaultProtocol, body: bytes, bytes_per_s: float) -> None:
    drop = max(1, round(bytes_per_s / _DRIPS_PER_S))
    for start in range(0, len(body), drop):
        await asyncio.sleep(drop / bytes_per_s)
        await protocol.send(body[start : start + drop])
