"""The responses of "List models" and "Retrieve model"."""

from collections.abc import Mapping
from typing import Any

from lemon_async.emulator.service.job_spec import MAX_IMAGES, known_family
from lemon_async.emulator.service.model_families import MODEL_IDS

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
    models = _RECOMMENDED if is_ranked else MODEL_IDS
    cards = [_card(model, unix, is_ranked=is_ranked) for model in models]
    return {"object": "list", "data": [card for card in cards if _matches(card, query)]}


def show_model(model: str, unix: float) -> dict[str, Any]:
    """Return one model with its details.

    Raises:
        ServiceError: 404, the model is unknown.
    """
    card = _card(model, unix, is_ranked=model in _RECOMMENDED)
    card["lemondata"] |= {"description": f"{known_family(model, status=404).name} on the emulator", "max_n": MAX_IMAGES}
    return card


def _matches(card: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    about = card["lemondata"]
    return (
        query.get("recommended_for", CATEGORY) == CATEGORY
        and query.get("category", about["category"]) == about["category"]
        and query.get("provider", card["owned_by"]) == card["owned_by"]
        and ("tag" not in query or query["tag"] in about["tags"])
    )


def _card(model: str, unix: float, *, is_ranked: bool) -> dict[str, Any]:
    family = known_family(model, status=404)
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
        preference = {
            "preferred_rank": 1 + list(_RECOMMENDED).index(model),
            "success_rate_24h": _RECOMMENDED[model],
            "sample_count_24h": _SAMPLES,
            "status": "ready",
            "updated_at": int(unix),
        }
        about["agent_preferences"] = {CATEGORY: preference}
    return {"id": model, "object": "model", "created": _CREATED, "owned_by": family.provider, "lemondata": about}
