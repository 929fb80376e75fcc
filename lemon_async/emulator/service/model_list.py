"""The responses of "List models" and "Retrieve model"."""

from collections.abc import Mapping
from typing import Any

from lemon_async.emulator.service.job_spec import MAX_IMAGES, unknown_model
from lemon_async.emulator.service.model_families import FAMILIES, Family, family_of

_CREATED = 1_706_000_000
CATEGORY = "image"

# The shortlist for agents, best first, with the success rate of a day.
_RECOMMENDED = {
    "gpt-image-2": 0.991,
    "gemini-3-pro-image-preview": 0.987,
    "flux-pro": 0.978,
    "midjourney": 0.951,
    "ideogram-v3": 0.964,
}
_SAMPLES = 2_400


def list_models(query: Mapping[str, str], unix: float) -> dict[str, Any]:
    """Return the models that match all filters; none is recommended for anything but images."""
    is_ranked = "recommended_for" in query
    cards = [_card(model, family, unix, is_ranked=is_ranked) for model, family in _models(is_ranked=is_ranked)]
    return {"object": "list", "data": [card for card in cards if _matches(card, query)]}


def show_model(model: str, unix: float) -> dict[str, Any]:
    """Return one model with its details.

    Raises:
        ServiceError: 404, the model is unknown.
    """
    family = family_of(model)
    if family is None:
        raise unknown_model(model, status=404)
    card = _card(model, family, unix, is_ranked=model in _RECOMMENDED)
    card["lemondata"] |= {"description": f"{family.name} on the emulator", "max_n": MAX_IMAGES}
    return card


def _models(*, is_ranked: bool) -> list[tuple[str, Family]]:
    pairs = [(model, family) for family in FAMILIES for model in family.ids]
    if not is_ranked:
        return pairs
    ranks = list(_RECOMMENDED)
    return sorted(
        (pair for pair in pairs if pair[0] in _RECOMMENDED),
        key=lambda pair: ranks.index(pair[0]),
    )


def _matches(card: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    about = card["lemondata"]
    return (
        query.get("recommended_for", CATEGORY) == CATEGORY
        and query.get("category", about["category"]) == about["category"]
        and query.get("provider", card["owned_by"]) == card["owned_by"]
        and ("tag" not in query or query["tag"] in about["tags"])
    )


def _card(model: str, family: Family, unix: float, *, is_ranked: bool) -> dict[str, Any]:
    about: dict[str, Any] = {
        "category": CATEGORY,
        "tags": [CATEGORY, *family.operations, *(["async"] if family.is_async_allowed else [])],
        "pricing_unit": "per_token" if family.is_token_priced else "per_image",
        "supported_operations": list(family.operations),
        "capability_flags": {
            "async": family.is_async_allowed,
            "stream": family.is_stream_allowed,
            "usually_task_based": family.is_task_based,
        },
        "public_contract": {"parameters": ["model", "prompt", "n", *sorted(family.fields)]},
    }
    if is_ranked:
        about["agent_preferences"] = {CATEGORY: _preference(model, unix)}
    return {
        "id": model,
        "object": "model",
        "created": _CREATED,
        "owned_by": family.provider,
        "lemondata": about,
    }


def _preference(model: str, unix: float) -> dict[str, Any]:
    return {
        "preferred_rank": 1 + list(_RECOMMENDED).index(model),
        "success_rate_24h": _RECOMMENDED[model],
        "sample_count_24h": _SAMPLES,
        "status": "ready",
        "updated_at": int(unix),
    }
