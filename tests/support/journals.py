"""Rows and changes for tests of journals."""

import hashlib

import orjson

from lemon_async.batch.records import Change, NewRow, SavedPicture
from lemon_async.batch.states import Transition

PICTURE = SavedPicture("out/a.png", 4, "00ff")


def new_row(key, *, columns=None, **fields):
    """Return a row whose digest follows from its content."""
    request = orjson.dumps({"prompt": f"a picture of {key}", **fields}, option=orjson.OPT_SORT_KEYS)
    others = orjson.dumps(columns) if columns else b""
    return NewRow(key, request, others, hashlib.sha256(request + others).digest())


def new_rows(number):
    return [new_row(f"k{index}") for index in range(number)]


def intend(key, price=0.04, cap=None):
    return Change(key=key, transition=Transition.INTEND, fingerprint="f" * 64, price_usd=price, cap_usd=cap)


def accept(key, task="token"):
    return Change(key=key, transition=Transition.ACCEPT, task=task)


def save(key, cost=None, *pictures):
    return Change(key=key, transition=Transition.SAVE, cost_usd=cost, pictures=pictures)
