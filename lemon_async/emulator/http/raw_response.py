"""How an answer travels when a fault spoils the way: decided in one place, done in another."""

import asyncio
from typing import Literal, assert_never

from attrs import frozen

from lemon_async.emulator.actions import (
    Blackhole,
    Cut,
    Drip,
    Garbage,
    Point,
    Reset,
)
from lemon_async.emulator.http.fault_protocol import FaultProtocol
from lemon_async.emulator.http.faults import Fault
from lemon_async.emulator.http.replies import has_own_length, raw_head
from lemon_async.emulator.service.messages import Reply

# What happens to the connection after the last byte: orderly close, our side ended (FIN), reset
# (RST), or nothing at all.
Ending = Literal["close", "end", "abort", "hold"]

_GARBAGE = bytes(range(256)) * 2
_DRIPS_PER_S = 20


@frozen
class RawResponse:
    """Bytes to send past aiohttp, the pace of the body, and what becomes of the connection."""

    ending: Ending
    head: bytes = b""
    body: bytes = b""
    bytes_per_s: float | None = None
    status: int | None = None


def plan_raw_response(reply: Reply, fault: Fault) -> RawResponse | None:
    """How `fault` wants `reply` to travel; None leaves it to aiohttp.

    The first that applies: nothing at all (Blackhole), no HTTP (Garbage), a break at some point,
    the whole head with a cut or a dripping body, or with a length of its own.
    """
    if fault.find(Blackhole):
        return RawResponse("hold")
    if fault.find(Garbage):
        return RawResponse("end", _GARBAGE)
    if fault.connection_break is not None:
        ending: Ending = "abort" if isinstance(fault.connection_break, Reset) else "end"
        return _broken(reply, fault.connection_break.at, ending)
    cut, drip = fault.find(Cut), fault.find(Drip)
    # aiohttp would correct a wrong length, or leave bytes behind for the next answer.
    if cut is None and drip is None and not has_own_length(reply):
        return None
    return RawResponse(
        "close" if cut is None else "abort",
        raw_head(reply),
        reply.body if cut is None else reply.body[: cut.at_byte],
        drip.bytes_per_s if drip else None,
        reply.status,
    )


def _broken(reply: Reply, at: Point, ending: Ending) -> RawResponse:
    head = raw_head(reply)
    match at:
        case "response_head":
            return RawResponse(ending, head[: len(head) // 2])
        case "response_body":
            half = reply.body[: len(reply.body) // 2]
            return RawResponse(ending, head, half, status=reply.status)
        case _:  # request_end; the earlier points never come as far as an answer
            return RawResponse(ending)


async def write_raw_response(protocol: FaultProtocol, delivery: RawResponse) -> None:
    """Send the bytes and wait until the connection is gone.

    Cancelling it, as aiohttp does when the client leaves, stops the sending where it is.
    """
    await protocol.send(delivery.head)
    if delivery.bytes_per_s is None:
        await protocol.send(delivery.body)
    else:
        await _drip(protocol, delivery.body, delivery.bytes_per_s)
    match delivery.ending:
        case "abort":
            await protocol.wait_acknowledged()
            protocol.abort()
        case "end":
            protocol.end()
        case "close":
            protocol.close()
        case "hold":
            pass
        case _:
            assert_never(delivery.ending)
    await protocol.wait_closed()


async def _drip(protocol: FaultProtocol, body: bytes, bytes_per_s: float) -> None:
    drop = max(1, round(bytes_per_s / _DRIPS_PER_S))
    for start in range(0, len(body), drop):
        await asyncio.sleep(drop / bytes_per_s)
        await protocol.send(body[start : start + drop])
