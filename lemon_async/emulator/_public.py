"""The public names of the emulator; `lemon_async.emulator` imports them when the first one is used."""

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
from lemon_async.emulator.http.handler import RecordedRequest
from lemon_async.emulator.service.ledger import Ledger, LedgerEntry
from lemon_async.emulator.web.fault_json import InvalidFaults, parse_faults

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
    "InvalidFaults",
    "LateVisible",
    "Latency",
    "Ledger",
    "LedgerEntry",
    "RecordedRequest",
    "Redirect",
    "Reset",
    "Result",
    "Script",
    "Status",
    "Stuck",
    "Vanish",
    "parse_faults",
]
