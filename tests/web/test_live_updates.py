"""The studio while things happen: lists are bounded, focus stays, and a lost connection comes back."""

import pytest

pytestmark = pytest.mark.usefixtures("undrawn")
KITES = 130
PAGE = 60
# The browser may be connected again before a test has looked.
NOTE_LOSS = """() => {
  window.losses = [];
  const banner = document.getElementById("connection");
  new MutationObserver(() => { if (banner.textContent) window.losses.push(banner.textContent); })
    .observe(banner, { childList: true, characterData: true, subtree: true });
}"""


async def make(session, number, prefix="kite"):
    async with session.map([f"{prefix} {index}" for index in range(number)], model="dall-e-3") as outcomes:
        async for outcome in outcomes:
            assert outcome.images


@pytest.fixture
async def session(connect):
    async with connect() as opened:
        yield opened


async def test_lists_are_paged_and_pictures_lazy(visit, studio, session, expect):
    """However many pictures there are, one page of them is fetched and shown; those far below are not loaded."""
    await make(session, KITES)
    visited = await visit(studio.base_url, width=900, height=700)
    page = visited.page
    cards = page.locator("#pictures [data-items] > li")
    await expect(cards).to_have_count(PAGE)
    await page.wait_for_load_state("networkidle")
    assert sum("/_page/thumbs/" in url for url in visited.requests) < PAGE
    assert sum("/_page/pictures" in url for url in visited.requests) <= 2  # one is for the first summary
    assert await page.evaluate("document.querySelectorAll('*').length") < 3000
    assert await cards.locator("img[loading=lazy][decoding=async][width][height]").count() == PAGE
    seen = set(await cards.get_by_role("heading").all_text_contents())
    for size in [PAGE, KITES - 2 * PAGE]:
        await page.get_by_role("button", name="Older").click()
        await expect(cards).to_have_count(size)
        await expect(page.get_by_role("heading", name="Pictures")).to_be_focused()
        seen |= set(await cards.get_by_role("heading").all_text_contents())
    assert len(seen) == KITES
    await expect(page.get_by_role("button", name="Older")).to_be_disabled()


async def test_focus_and_scroll_stay_while_pictures_arrive(visit, studio, session, expect):
    """What the user reads or types in stays in place and keeps the focus."""
    await make(session, 40)
    page = (await visit(studio.base_url, width=900, height=700)).page
    details = page.get_by_role("button", name="Details of kite 5", exact=True)
    await details.focus()
    await details.scroll_into_view_if_needed()
    before = await details.bounding_box()
    await make(session, 3, "late kite")
    await expect(page.get_by_role("heading", name="late kite 2", exact=True)).to_have_count(1)
    await expect(details).to_be_focused()
    after = await details.bounding_box()
    assert abs(after["y"] - before["y"]) < 2


async def test_text_being_typed_stays_while_pictures_arrive(visit, studio, session, expect):
    """Neither the prompt nor its selection is touched by updates."""
    page = (await visit(studio.base_url)).page
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    await prompt.fill("a half")
    await prompt.evaluate("(field) => field.setSelectionRange(2, 6)")
    await make(session, 2)
    await expect(page.get_by_role("heading", name="kite 1", exact=True)).to_be_visible()
    await expect(prompt).to_be_focused()
    chosen = await prompt.evaluate("(field) => field.value.slice(field.selectionStart, field.selectionEnd)")
    assert chosen == "half"


async def test_page_reconnects_after_a_restart(visit, studio, session, expect):
    """While the emulator is down the page says so; once it is back, the page goes on without a reload."""
    visited = await visit(studio.base_url)
    page = visited.page
    await page.evaluate(NOTE_LOSS)
    await studio.restart(down_s=0.01)
    await make(session, 1)
    await expect(page.get_by_role("heading", name="kite 0", exact=True)).to_be_visible()
    await expect(page.get_by_text("Connection lost")).to_be_hidden()
    assert await page.evaluate("window.losses") == ["Connection lost. Trying again…"]
    visited.expect_problems()
