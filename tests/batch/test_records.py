import math

import pytest

from lemon_async.batch.records import Change, Spending
from lemon_async.batch.states import Transition


@pytest.mark.parametrize("field", ["price_usd", "cap_usd", "cost_usd"])
@pytest.mark.parametrize("amount", [-0.01, math.nan, math.inf])
def test_change_with_an_impossible_amount_is_refused(field, amount):
    """Sums stay finite, and a cap cannot be lifted by a negative price."""
    with pytest.raises(ValueError, match=f"{field}=.*at least 0"):
        Change(key="a", transition=Transition.INTEND, **{field: amount})


def test_committed_is_everything_but_refunds():
    """What a cap limits."""
    assert Spending(spent=1, reserved=2, doubtful=4, refunded=8).committed == 7


def test_spending_as_json_is_rounded():
    """Sums are rounded to millionths; the number of unpriced rows stays whole."""
    sums = Spending(spent=0.1 + 0.2, reserved=1e-9, unpriced=3).as_json()
    assert sums == {"spent": 0.3, "reserved": 0.0, "doubtful": 0.0, "refunded": 0.0, "unpriced": 3}
