"""The model list has the documented shape, filters and ranks."""

import pytest

from lemon_async.emulator.service.model_families import MODEL_IDS
from lemon_async.emulator.service.model_list import list_models, show_model
from lemon_async.emulator.service_errors import ServiceError


def ids(**query):
    """Return the ids that match these filters."""
    return [card["id"] for card in list_models(query, 0.0)["data"]]


def test_list_holds_every_model_once():
    """In the order of the families."""
    assert ids() == list(MODEL_IDS)
    assert list_models({}, 0.0)["object"] == "list"


def test_filters_narrow_the_list():
    """They can be combined."""
    assert ids(category="image") == list(MODEL_IDS)
    assert ids(category="chat") == []
    assert ids(provider="midjourney") == ["midjourney"]
    assert ids(tag="async") == ["gpt-image-2", "flux-schnell", "flux-pro", "flux-dev"]
    assert ids(tag="edit", provider="openai") == ["dall-e-2", "gpt-image-2"]


def test_recommended_models_come_ranked():
    """With the statistics of a day."""
    cards = list_models({"recommended_for": "image"}, 7.9)["data"]
    ranks = [card["lemondata"]["agent_preferences"]["image"] for card in cards]
    assert [rank["preferred_rank"] for rank in ranks] == [1, 2, 3, 4, 5]
    assert {rank["updated_at"] for rank in ranks} == {7}
    assert cards[0]["id"] == "gpt-image-2"


def test_other_purposes_have_no_recommendations():
    """The list is empty, not an error."""
    for purpose in ("video", "chat", "poetry", ""):
        assert list_models({"recommended_for": purpose}, 0.0) == {"object": "list", "data": []}


def test_plain_list_has_no_preferences():
    """They belong to `recommended_for`."""
    assert "agent_preferences" not in list_models({}, 0.0)["data"][0]["lemondata"]


def test_one_model_comes_with_more_detail():
    """Also one that only a pattern knows."""
    card = show_model("gpt-image-2", 0.0)
    assert card["lemondata"]["max_n"] == 10
    assert card["lemondata"]["pricing_unit"] == "per_token"
    assert card["lemondata"]["agent_preferences"]["image"]["preferred_rank"] == 1
    assert "agent_preferences" not in show_model("mj-fast", 0.0)["lemondata"]


def test_unknown_model_is_404_with_similar_ids():
    """As in generations, where the status is 400."""
    with pytest.raises(ServiceError) as caught:
        show_model("dall-e-33", 0.0)
    assert caught.value.status == 404
    assert caught.value.as_json()["error"]["did_you_mean"] == "dall-e-3"
