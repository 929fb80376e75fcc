"""The table of families says what the documentation says."""

from lemon_async.emulator.service.model_families import FAMILIES, MODEL_IDS, family_of


def test_family_is_found_by_id_before_pattern():
    """Unknown ids have no family."""
    expected = {
        "dall-e-3": "DALL-E 3",
        "flux-schnell": "FLUX Schnell",
        "flux-pro": "FLUX",
        "flux-2-whatever": "FLUX",
        "mj-fast": "Midjourney",
        "ideogram-v4": "Ideogram",
        "nano-banana-pro": "Gemini with resolution",
        "nano-banana": "Gemini Flash",
    }
    assert {model: family_of(model).name for model in expected} == expected
    assert family_of("gpt-4o") is None


def test_every_id_belongs_to_one_family():
    """Otherwise the order of the table would matter."""
    assert len(set(MODEL_IDS)) == len(MODEL_IDS)


def test_only_gpt_image_and_flux_accept_async():
    """The page "Create image" offers `async` on gpt-image-2 and official FLUX models only."""
    models = {id_ for family in FAMILIES if family.is_async_allowed for id_ in family.ids}
    assert models == {"gpt-image-2", "flux-schnell", "flux-pro", "flux-dev"}


def test_only_gpt_image_streams():
    """`partial_images` is a field of gpt-image-2."""
    assert [family.ids for family in FAMILIES if family.is_stream_allowed] == [("gpt-image-2",)]


def test_task_based_models_take_as_long_as_documented():
    """Most tasks take 30 to 120 seconds, says the page "Get image status"."""
    assert all(30 <= family.median_s <= 120 for family in FAMILIES if family.is_task_based)
