"""The LemonData image API on this machine: a real HTTP server for tests, demos and offline work.

    async with Emulator(speed=60) as emu:
        emu.fault("submit", Reset("response_head"), nth=[1])    # sold, but the answer is lost
        emu.fault("poll", Status(502, "html"), times=3)
        ...                                                     # any client, at emu.base_url
        assert emu.ledger.sold["my prompt"] == 1                # nobody paid twice

A minute of the service lasts a second here. Every response announces that in its `X-Emulator-Speed` header, so that a
`LemonSession` on the same machine polls sixty times as often.

Faults are described in `faults`, what they can do in `actions`.
"""

from lemon_async.emulator.actions import (
    Answer,
    Blackhole,
    Body,
    Cut,
    Drip,
    Expire,
    Fail,
    Garbage,
    HalfClose,
    Latency,
    LateVisible,
    Redirect,
    Reset,
    Result,
    Script,
    Status,
    Stuck,
    Vanish,
)
from lemon_async.emulator.app import Emulator
from lemon_async.emulator.http.faults import Fault
from lemon_async.emulator.http.handler import SeenRequest
from lemon_async.emulator.service.ledger import Ledger, LedgerEntry

__all__ = [
    "Answer",
    "Blackhole",
    "Body",
    "Cut",
    "Drip",
    "Emulator",
    "Expire",
    "Fail",
    "Fault",
    "Garbage",
    "HalfClose",
    "LateVisible",
    "Latency",
    "Ledger",
    "LedgerEntry",
    "Redirect",
    "Reset",
    "Result",
    "Script",
    "SeenRequest",
    "Status",
    "Stuck",
    "Vanish",
]
