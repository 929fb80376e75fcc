"""Prices of rows, from the caller or else from what this batch has paid so far."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from lemon_async.batch.records import JournalRow
from lemon_async.batch.rows.request_json import load_request
from lemon_async.errors import ContractError
from lemon_async.requests import Request
from lemon_async.types import Problem

__all__ = ["PriceOption", "Prices", "cost_in", "images_of", "model_of", "no_price"]

PriceOption = float | Mapping[str, float] | Callable[[Request], float | None] | None
"""The price of one image in US dollars, or one for each model, or a function that returns the price of a request."""

# More is a mistake; and the sums of a journal, in 64-bit billionths of a dollar, hold a million such rows.
_MAX_USD = 10_000
_COST = re.compile(r"x-.*cost.*usd.*|x-.*usd.*cost.*")


class Prices:
    """What rows cost, in US dollars.

    A price is that of `price_usd`; without it, the mean of what images of the same model have cost so far.

    Args:
        price_usd: See `PriceOption`. A model that a mapping does not name, and `None` from a function, has no price.

    Raises:
        ContractError: A price is negative or no number.
    """

    def __init__(self, price_usd: PriceOption = None) -> None:
        problems = list(_find_price_problems(price_usd))
        if problems:
            raise ContractError(problems=tuple(problems))
        self._given = price_usd
        self._costs: dict[str, float] = {}
        self._images: dict[str, int] = {}

    @property
    def learned(self) -> Mapping[str, float]:
        """The mean cost of an image by model, of all that was learned."""
        return {model: cost / self._images[model] for model, cost in self._costs.items()}

    def learn(self, request: Request, images: int, cost_usd: float | None) -> None:
        """Take what the images of a request have cost; ignored if that is unknown or no amount of money."""
        if images > 0 and cost_usd is not None and _find_fault(cost_usd) is None:
            model = model_of(request)
            self._costs[model] = self._costs.get(model, 0.0) + cost_usd
            self._images[model] = self._images.get(model, 0) + images

    def learn_row(self, row: JournalRow) -> None:
        """Take what the images of a finished row of a journal have cost."""
        if row.cost_usd is not None and row.pictures:
            self.learn(load_request(row.request), len(row.pictures), row.cost_usd)

    def price_of(self, request: Request) -> float | None:
        """Return the price of a request with all its images, or `None` if it is not known.

        Raises:
            ContractError: The caller's function raised, or returned no price.
        """
        if callable(self._given):
            return _called(self._given, request)
        each = self._each(model_of(request))
        return None if each is None else each * images_of(request)

    def to_reserve(self, request: Request) -> float | None:
        """Return the price to reserve for a request: more than the caller said if rows have cost more so far.

        Raises:
            ContractError: As `price_of`.
        """
        price = self.price_of(request)
        if price is None or callable(self._given):
            return price
        learned = self.learned.get(model_of(request), 0.0)
        return max(price, learned * images_of(request))

    def _each(self, model: str) -> float | None:
        if self._given is None:
            images = self._images.get(model)
            return self._costs[model] / images if images else None
        if isinstance(self._given, Mapping):
            return self._given.get(model)
        assert not callable(self._given)  # noqa: S101 - `price_of` has called it
        return self._given


def no_price(request: Request) -> Problem:
    """Return the problem of a request that has no price under a cap."""
    words = f"the price of {model_of(request)} is not known, which budget_usd needs: give price_usd="
    return Problem("price_usd", words)


def model_of(request: Request) -> str:
    """Return the model of a request, or the service's default."""
    return request.model if request.model is not None else request.default_model


def images_of(request: Request) -> int:
    """Return the number of images that a request asks for."""
    return request.n if request.n is not None else 1


def cost_in(headers: Mapping[str, str]) -> float | None:
    """Return the cost in US dollars that the headers of a response report, or `None`.

    The service does not document its billing headers: any `x-` header that names a cost in usd counts, estimates do
    not.
    """
    for name, value in headers.items():
        if _COST.fullmatch(name) and "estimate" not in name:
            try:
                cost = float(value)
            except ValueError:
                continue
            if _find_fault(cost) is None:
                return cost
    return None


def _called(function: Callable[[Request], float | None], request: Request) -> float | None:
    try:
        price = function(request)
    except Exception as fault:
        raise ContractError.of("price_usd", f"raised {fault!r:.200} for {request!r:.200}") from fault
    if price is not None and (reason := _find_fault(price)):
        raise ContractError.of("price_usd", f"{reason}, not {price!r:.80}, for {request!r:.200}")
    return price


def _find_price_problems(given: Any) -> list[Problem]:
    if given is None or callable(given):
        return []
    prices = given if isinstance(given, Mapping) else {"": given}
    problems = [
        Problem("price_usd", f"{reason}, not {price!r:.80}{f', for {model!r:.80}' if model else ''}")
        for model, price in prices.items()
        if (reason := _find_fault(price))
    ]
    strange = [model for model in prices if not isinstance(model, str)]
    return problems + [Problem("price_usd", f"names of models must be text, not {model!r:.80}") for model in strange]


def _find_fault(price: object) -> str | None:
    if isinstance(price, int | float) and not isinstance(price, bool) and 0 <= price <= _MAX_USD:
        return None
    return f"must be a number of US dollars from 0 to {_MAX_USD:,}"
