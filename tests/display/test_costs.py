"""What was said about money, in words."""

import pytest

from lemon_async._display.costs import cost_facts, cost_usd
from lemon_async.types import Billing

USAGE = {"total_tokens": 1057, "input_tokens": 1, "output_tokens": 1056, "output_tokens_details": {"image_tokens": 1}}


def test_facts_tell_tokens_transaction_and_headers_about_money():
    """Whatever is about money is shown, in readable names; other headers are not."""
    headers = {"x-lemondata-cost-usd": "0.055", "x-request-id": "r", "x-balance": "3", "x-ratelimit-limit": "60"}
    facts = cost_facts(Billing("txn_1", USAGE, headers))
    assert facts == (
        ("Tokens", "1,057 (1 input, 1,056 output)"),
        ("Transaction", "txn_1"),
        ("Balance", "3"),
    )


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"total_tokens": 3}, (("Tokens", "3"),)),
        ({"output_tokens": 3}, (("Tokens", "3 output"),)),
        ({"total_tokens": "many"}, ()),
        ({}, ()),
        (None, ()),
    ],
)
def test_facts_tell_of_tokens_what_is_there(usage, told):
    """Counts that are missing or no numbers are left out."""
    assert cost_facts(Billing(usage=usage)) == told


def test_facts_tell_the_transaction_once():
    """The header that repeats it adds nothing."""
    headers = {"x-lemondata-billing-transaction-id": "txn_1"}
    assert cost_facts(Billing("txn_1", headers=headers)) == (("Transaction", "txn_1"),)


def test_facts_leave_out_the_cost_that_is_told_as_such():
    """One number stands in one place; numbers that contradict each other are facts."""
    assert cost_facts(Billing(headers={"x-cost-usd": "1", "x-price-usd": "1.0", "x-estimated-cost-usd": "1"})) == (
        ("Estimated cost in USD", "1"),
    )
    assert cost_facts(Billing(headers={"x-cost-usd": "1", "x-price-usd": "2"})) == (
        ("Cost in USD", "1"),
        ("Price in USD", "2"),
    )


@pytest.mark.parametrize(
    ("headers", "usd"),
    [
        ({"x-lemondata-cost-usd": "0.055"}, 0.055),
        ({"x-usd-charged": "1"}, 1.0),
        ({"x-lemondata-estimated-cost-usd": "0.055"}, None),
        ({"x-balance-usd": "12"}, None),
        ({"x-cost-usd": "free"}, None),
        ({"x-cost-usd": "nan"}, None),
        ({"x-cost-usd": "-1"}, None),
        ({"x-cost-usd": "1", "x-price-usd": "1.0"}, 1.0),
        ({"x-cost-usd": "1", "x-price-usd": "2"}, None),
        ({}, None),
    ],
)
def test_cost_is_told_only_if_it_is_clear(headers, usd):
    """Estimates, balances and contradictions are no cost."""
    assert cost_usd(Billing(headers=headers)) == usd
