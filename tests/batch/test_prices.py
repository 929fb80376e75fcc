"""Prices come from the caller, or from what images have cost; what is no price is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async import GenerateRequest, VariationRequest
from lemon_async.batch.prices import Prices, cost_in, images_of, model_of
from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.rows.request_json import dump_request
from lemon_async.batch.states import State
from lemon_async.errors import ContractError

NOT_PRICES = [-0.01, float("nan"), float("inf"), True, "0.04", [0.04]]
FLUX = GenerateRequest("x", model="flux-pro", n=3)


@pytest.mark.parametrize(
    ("price_usd", "expected"),
    [
        (0.04, 0.12),
        (0, 0),
        ({"flux-pro": 0.05}, 0.15),
        ({"dall-e-3": 0.05}, None),
        ({}, None),
        (lambda request: 0.2, 0.2),
        (lambda request: 0.01 * request.n, 0.03),
        (lambda request: None, None),
        (None, None),
    ],
)
def test_prices_of_a_row(price_usd, expected):
    """A number and a mapping hold for one image, a function for the whole row."""
    assert Prices(price_usd).price_of(FLUX) == pytest.approx(expected)


def test_defaults_of_the_service_count():
    """A request without a model or a number has the documented ones."""
    assert model_of(GenerateRequest("x")) == "dall-e-3"
    assert model_of(VariationRequest(image="a.png")) == "dall-e-2"
    assert images_of(GenerateRequest("x")) == 1
    assert Prices({"dall-e-3": 0.04}).price_of(GenerateRequest("x")) == 0.04


@pytest.mark.parametrize("price", NOT_PRICES)
def test_what_is_no_price_is_refused(price):
    """As a number, in a mapping, and from a function."""
    with pytest.raises(ContractError, match="price_usd: must be a number of US dollars from 0 to 10,000, not "):
        Prices(price)
    with pytest.raises(ContractError, match=r"price_usd: must be .*, for 'flux-pro'"):
        Prices({"flux-pro": price})
    with pytest.raises(ContractError, match=r"price_usd: must be .*, for GenerateRequest\("):
        Prices(lambda _: price).price_of(FLUX)


def test_other_mistakes_are_refused():
    """Keys that are no models, and functions that raise."""
    with pytest.raises(ContractError, match="names of models must be text, not 7"):
        Prices({7: 0.04})
    with pytest.raises(ContractError, match="price_usd: raised ZeroDivisionError") as caught:
        Prices(lambda _: 1 / 0).price_of(FLUX)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 10), st.floats(0, 100)), min_size=1))
def test_mean_cost_of_an_image_is_learned(paid):
    """By model; a row then costs as many times that as it asks for images."""
    prices = Prices()
    for images, cost in paid:
        prices.learn(FLUX, images, cost)
    mean = sum(cost for _, cost in paid) / sum(images for images, _ in paid)
    assert prices.learned == {"flux-pro": pytest.approx(mean)}
    assert prices.price_of(FLUX) == pytest.approx(3 * mean)
    assert prices.price_of(GenerateRequest("x")) is None


@pytest.mark.parametrize(("images", "cost"), [(0, 1.0), (1, None), (1, -1.0), (1, float("nan")), (1, 1e9)])
def test_what_is_no_cost_is_not_learned(images, cost):
    """The service does not document its billing."""
    prices = Prices()
    prices.learn(FLUX, images, cost)
    assert prices.price_of(FLUX) is None


def test_prices_of_the_caller_win():
    """What was learned replaces nothing that was given."""
    prices = Prices({"dall-e-3": 0.04})
    prices.learn(FLUX, 1, 9.0)
    assert prices.price_of(FLUX) is None


def test_finished_rows_teach_prices():
    """By the number of their files; rows without a cost teach nothing."""
    prices = Prices()
    pictures = (SavedPicture("a.png", 1, ""), SavedPicture("b.png", 1, ""))
    row = {"number": 0, "key": "a", "state": State.DONE, "request": dump_request(FLUX), "pictures": pictures}
    prices.learn_row(JournalRow(**row))
    prices.learn_row(JournalRow(**row | {"cost_usd": 1.0, "pictures": ()}))
    prices.learn_row(JournalRow(**row, cost_usd=0.1))
    assert prices.learned == {"flux-pro": pytest.approx(0.05)}


@pytest.mark.parametrize(
    ("headers", "cost"),
    [
        ({"x-cost-usd": "0.04"}, 0.04),
        ({"x-lemondata-actual-cost-usd": "0"}, 0.0),
        ({"x-usd-cost": "1e-3"}, 0.001),
        ({"x-estimated-cost-usd": "0.04"}, None),
        ({"x-estimated-cost-usd": "0.04", "x-billed-cost-usd": "0.05"}, 0.05),
        ({"x-cost": "0.04"}, None),
        ({"cost-usd": "0.04"}, None),
        ({"x-cost-usd": "free"}, None),
        ({"x-cost-usd": "nan"}, None),
        ({"x-cost-usd": "-1"}, None),
        ({"x-cost-usd": "1e300"}, None),
        ({"x-cost-usd": "9e9", "x-usd-cost": "0.05"}, 0.05),
        ({}, None),
    ],
)
def test_cost_in_headers(headers, cost):
    """Any header that names a cost in US dollars counts, and no estimate does."""
    assert cost_in(headers) == cost
