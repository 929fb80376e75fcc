"""The catalogue of models. Nothing here costs."""

from lemon_async._api.models_and_files import read_model, read_models
from lemon_async._http.calls import Calls, path_of
from lemon_async.types import Model

__all__ = ["find_models", "get_model"]

_MODELS_PATH = "/v1/models"


async def find_models(calls: Calls, **filters: str | None) -> tuple[Model, ...]:
    """Return the models that all filters let through; see `LemonSession.models`."""
    query = {name: value for name, value in filters.items() if value is not None}
    return await calls.read(_MODELS_PATH, read_models, query=query)


async def get_model(calls: Calls, model: str) -> Model:
    """Return one model; see `LemonSession.model`."""
    return await calls.read(path_of(_MODELS_PATH, model=model), read_model)
