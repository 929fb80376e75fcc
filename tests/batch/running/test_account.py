"""Counts and sums of a run agree with those of its journal."""

import pytest

from lemon_async.batch import open_journal
from lemon_async.batch.records import Change, Spending
from lemon_async.batch.running.account import Account, facts_of
from lemon_async.batch.states import State, Transition
from saved_rows import add

PATHS = [
    [(Transition.INTEND, {"price_usd": 0.1}), (Transition.ACCEPT, {}), (Transition.SAVE, {"cost_usd": 0.07})],
    [(Transition.INTEND, {"price_usd": 0.1}), (Transition.ACCEPT, {}), (Transition.FAIL, {}), (Transition.REPEAT, {})],
    [(Transition.INTEND, {"price_usd": 0.1}), (Transition.ACCEPT, {}), (Transition.FAIL, {}), (Transition.GIVE_UP, {})],
    [(Transition.INTEND, {"price_usd": 0.1}), (Transition.ACCEPT, {}), (Transition.LOSE, {})],
    [(Transition.INTEND, {"price_usd": 0.1}), (Transition.DOUBT, {})],
    [(Transition.INTEND, {"price_usd": 0.1}), (Transition.WITHDRAW, {}), (Transition.REFUSE, {})],
    [(Transition.INTEND, {}), (Transition.ACCEPT, {}), (Transition.SAVE, {})],
    [(Transition.INTEND, {"price_usd": 0.1})],
]


async def test_an_account_agrees_with_its_journal(tmp_path):
    """Whatever happens to the rows."""
    async with open_journal(tmp_path / "run.db", create=True) as journal:
        for number in range(len(PATHS)):
            await add(journal, f"r{number}")
        account = Account(await journal.counts(), await journal.spending())
        for row, path in zip(await journal.rows(), PATHS, strict=True):
            facts = facts_of(row)
            for transition, given in path:
                change = Change(key=row.key, transition=transition, **given)
                assert await journal.record(change) is not None
                account.apply(facts, change)
        assert account.counts == await journal.counts()
        assert account.spending == await journal.spending()
        again = [facts_of(row) for row in await journal.rows()]
    assert [facts.state for facts in again][:2] == [State.DONE, State.NEW]


def test_a_row_fits_if_the_cap_holds_for_all_that_are_pledged():
    account = Account({}, Spending(spent=0.1, reserved=0.2, doubtful=0.3), 1.0)
    assert account.fits(0.4)
    assert not account.fits(0.41)
    account.pledge(0.3)
    assert account.fits(0.1)
    assert not account.fits(0.11)
    account.pledge(0.3, -1)
    assert account.fits(0.4)


def test_without_a_cap_every_row_fits():
    assert Account({}, Spending(spent=1e6)).fits(1e6)


@pytest.mark.parametrize("price", [0.1, 0.7, 0.04, 1 / 3])
def test_sums_are_exact(price):
    """A cap of so many rows is used up by so many rows."""
    account = Account({}, Spending(), price * 1000)
    for _ in range(1000):
        assert account.fits(price)
        account.pledge(price)
    assert not account.fits(price)


def test_an_account_takes_what_the_journal_says():
    """Its pledges stay; what this run has reserved itself may not be released by others."""
    account = Account({}, Spending(), 1.0)
    account.pledge(0.25)
    account.replace({State.SOLD: 3}, Spending(reserved=0.5))
    assert (account.counts[State.SOLD], account.spending.reserved) == (3, 0.5)
    assert account.fits(0.25)
    assert not account.fits(0.26)
    assert account.has_reserved_besides(0)
    assert not account.has_reserved_besides(500_000_000)
