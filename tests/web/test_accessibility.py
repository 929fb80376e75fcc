"""axe-core finds nothing against the pages, light and dark, wide and narrow, and nothing is wider than the window."""

import pytest

from chromium import check_looks
from lemon_async.emulator import Fail, Reset


@pytest.fixture
async def busy_studio(studio, connect):
    """A studio with pictures, a task that failed, and a fault in its list."""
    async with connect() as session:
        await session.generate("a kite", model="dall-e-3")
        await session.generate("two kites 風箏", model="gpt-image-2", n=2)
        studio.fault("submit", Fail("no kites today"), times=1)
        await session.submit("a failed kite", model="midjourney")
    studio.fault("poll", Reset("response_head"), times=1, model="never")
    return studio


async def test_views_of_the_studio_have_no_violation(visit, busy_studio, expect):
    """Each view and each dialog."""
    page = (await visit(busy_studio.base_url)).page
    await expect(page.locator("#pictures").get_by_text("no kites today")).to_be_visible()
    await check_looks(page)
    await page.get_by_role("button", name="Details of a kite").click()
    await check_looks(page)
    await page.keyboard.press("Escape")
    for view in ["requests", "ledger", "faults"]:
        await page.goto(f"{busy_studio.base_url}/#{view}")
        await page.locator(f"#{view} tbody tr, #{view} #fault-list li").first.wait_for()
        await check_looks(page)
    await page.goto(f"{busy_studio.base_url}/#requests")
    await page.get_by_role("button", name="Details of request").first.click()
    await page.get_by_role("dialog").get_by_role("region", name="curl").wait_for()
    await check_looks(page)


async def test_studio_with_errors_has_no_violation(visit, studio, expect):
    """Empty lists, messages beside forms, and a lost connection."""
    visited = await visit(studio.base_url)
    page = visited.page
    await expect(page.get_by_text("No pictures yet.")).to_be_visible()
    await check_looks(page)
    await page.get_by_text("More fields").click()
    await page.get_by_label("As a JSON object").fill("{")
    await page.get_by_role("button", name="Generate").click()
    await expect(page.get_by_role("alert").filter(has_text="write one JSON object")).to_be_visible()
    await studio.aclose()
    await expect(page.get_by_text("Connection lost")).to_be_visible()
    await check_looks(page)
    visited.expect_problems()


async def test_landmarks_names_and_states_are_in_the_accessibility_tree(visit, busy_studio, expect):
    """What a screen reader lists: landmarks, headings, named controls and the state of switches."""
    page = (await visit(busy_studio.base_url)).page
    await expect(page.locator("#pictures").get_by_text("no kites today")).to_be_visible()
    await expect(page.locator("body")).to_match_aria_snapshot("""
      - link "Skip to the pictures"
      - banner:
        - heading "Studio" [level=1]
      - main:
        - region "Make a picture":
          - textbox "Prompt"
          - combobox "Model"
          - button "Generate"
        - region "Common faults":
          - group "Common faults":
            - button "Tasks fail"
        - navigation "Views":
          - link "Pictures"
        - region "Pictures":
          - heading "Pictures" [level=2]
          - search "Filter pictures"
          - list:
            - listitem:
              - heading "a failed kite" [level=3]
              - button "Details of a failed kite"
    """)


async def test_news_are_few(visit, studio, undrawn, connect, expect):
    """Live regions speak of one job at a time, not of every picture that other programs make."""
    page = (await visit(studio.base_url)).page
    await page.evaluate("""() => {
      window.spoken = [];
      for (const region of document.querySelectorAll("[role=status], [role=alert], [aria-live]"))
        new MutationObserver(() => { if (region.textContent) window.spoken.push(region.textContent); })
          .observe(region, { childList: true, characterData: true, subtree: true });
    }""")
    async with connect() as session:
        for index in range(20):
            await session.generate(f"kite {index}", model="dall-e-3")
    await expect(page.get_by_role("heading", name="kite 19", exact=True)).to_be_visible()
    assert len(await page.evaluate("window.spoken")) <= 3
