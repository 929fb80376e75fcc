"""What the service said about money, in the words of people. The names of its headers are not documented."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lemon_async.types import Billing

__all__ = ["cost_facts", "cost_usd"]

_ABOUT_MONEY = re.compile(r"cost|price|billing|billed|charge|credit|balance|transaction|usage")
_AMOUNT = re.compile(r"(?=.*usd)(?=.*(cost|price|charge|billed))(?!.*(estimat|balance|reserv))")
_BEFORE_THE_NAME = re.compile(r"^x-(lemondata-|ratelimit-)?")
_LONGEST_VALUE = 200
_MOST_HEADERS = 12
_TOKENS = ("input_tokens", "output_tokens")


def cost_facts(billing: Billing) -> tuple[tuple[str, str], ...]:
    """Return names and values for a table, without what `cost_usd` tells; none if nothing was said."""
    return tuple(_facts(billing))


def cost_usd(billing: Billing) -> float | None:
    """Return what a finished job cost, if exactly one header tells that in dollars; estimates do not count."""
    amounts = {_amount(value) for name, value in billing.headers.items() if _AMOUNT.match(name)}
    return amounts.pop() if len(amounts) == 1 else None


def _facts(billing: Billing) -> Iterator[tuple[str, str]]:
    if billing.usage:
        yield from _usage(billing.usage)
    if billing.transaction_id:
        yield "Transaction", billing.transaction_id[:_LONGEST_VALUE]
    is_clear = cost_usd(billing) is not None
    safe_str = [
        (name, value)
        for name, value in billing.headers.items()
        if _ABOUT_MONEY.search(name) and not (is_clear and _AMOUNT.match(name))
    ]
    for name, value in safe_str[:_MOST_HEADERS]:
        if value != billing.transaction_id:
            yield _title(name), value[:_LONGEST_VALUE]


def _usage(usage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    parts = [f"{usage[key]:,} {key.removesuffix('_tokens')}" for key in _TOKENS if isinstance(usage.get(key), int)]
    total = usage.get("total_tokens")
    if isinstance(total, int):
        yield "Tokens", f"{total:,}" + (f" ({', '.join(parts)})" if parts else "")
    elif parts:
        yield "Tokens", ", ".join(parts)


def _title(header: str) -> str:
    words = _BEFORE_THE_NAME.sub("", header[:_LONGEST_VALUE]).replace("-", " ")
    return words.capitalize().replace(" usd", " in USD")


def _amount(text: str) -> float | None:
    try:
        amount = float(text)
    except ValueError:
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None
