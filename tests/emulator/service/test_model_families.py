import pytest

from lemon_async.emulator.service.model_families import FAMILIES, MODEL_IDS, family_of


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("dall-e-3", "DALL-E 3"),
        ("flux-schnell", "FLUX Schnell"),
        ("flux-pro", "FLUX"),
        ("flux-2-whatever", "FLUX"),
        ("mj-fast", "Midjourney"),
        ("ideogram-v4", "Ideogram"),
        ("nano-banana-pro", "Gemini with resolution"),
        ("nano-banana", "Gemini Flash"),
    ],
)
def test_family_is_found_by_id_before_pattern(model, name):
    assert family_of(model).name == name


def test_family_of_a_stranger_is_none():
    assert family_of("gpt-4o") is None


def test_every_id_belongs_to_one_family():
    assert len(set(MODEL_IDS)) == len(MODEL_IDS)


def test_only_gpt_image_and_flux_take_async():
    """The page "Create image" offers `async` on gpt-image-2 and official FLUX models only."""
    takers = {id_ for family in FAMILIES if family.is_async_allowed for id_ in family.ids}
    assert takers == {"gpt-image-2", "flux-schnell", "flux-pro", "flux-dev"}


def test_task_models_take_about_as_long_as_the_page_says():
    """Most tasks take 30 to 120 seconds, says the page "Get image status"."""
    assert all(30 <= f.median_s <= 120 for f in FAMILIES if f.is_task_based)
