"""The page of a batch in a browser: live, read-only, accessible, and safe to show what a table contains."""

from contextlib import asynccontextmanager

import pytest

from attacks import ATTACKS
from chromium import check_looks, visiting
from lemon_async._web.server import PageServer
from lemon_async.batch import watch_journal
from lemon_async.cli.batch.picture_list import PictureList
from lemon_async.cli.batch.watch import make_pages
from lemon_async.cli.batch.watched_batch import WatchedBatch
from lemon_async.emulator import Fail, Reset

RISKY = "[onerror], [onload], [onfocus], svg, script:not([src]), a[href^=javascript]"
NO_JSON = {"control", "surrogate"}
NO_KEYS = {"combining", "direction"}  # a key is a short line of characters that can be seen
ROWS = [
    *(
        {"sku": name if name in NO_KEYS else text, "prompt": text}
        for name, text in ATTACKS.items()
        if name not in NO_JSON
    ),
    {"sku": "doubt", "prompt": "a doubtful kite"},
    {"sku": "fail", "prompt": "a failing kite"},
]


@pytest.fixture
def page_of():
    """Serve the page of a journal; yields its address."""

    @asynccontextmanager
    async def serve(journal):
        async with watch_journal(str(journal)) as view:
            pictures = PictureList(view, "run.db")
            pages = make_pages(WatchedBatch(view, "run.db"), pictures, "127.0.0.1")
            async with PageServer(pages) as server:
                yield server.url
            pictures.close()

    return serve


@pytest.fixture
async def bought(connect, studio, undrawn, tmp_path):
    """The journal of a batch whose rows have attacks as keys, prompts and reasons of failures."""
    studio.fault("submit", Reset("response_head"), prompt="doubtful")
    studio.fault("submit", Fail(ATTACKS["script"]), prompt="failing")
    async with (
        connect() as session,
        session.batch(
            tmp_path / "run.db", ROWS, key="sku", model="midjourney", save=f"{tmp_path}/out/{{key}}"
        ) as batch,
    ):
        outcomes = [outcome async for outcome in batch]
    assert len(outcomes) == len(ROWS)
    return tmp_path / "run.db"


async def test_attacks_in_a_table_are_text_and_nothing_is_violated(page_of, bought, browser, expect):
    """Keys, prompts and reasons run nothing, are no wider than any window, and axe-core finds nothing."""
    async with page_of(bought) as url, visiting(browser, url) as visit:
        page = visit.page
        await expect(page.get_by_role("region", name="Doubtful rows", exact=True)).to_be_visible()
        failures = page.get_by_role("region", name="Failures by reason", exact=True)
        await expect(failures).to_contain_text(ATTACKS["script"])
        cards = page.locator("#pictures [data-items] > li")
        await expect(cards).to_have_count(len(ROWS))
        titles = await cards.locator("h3").all_text_contents()
        assert {row["prompt"] for row in ROWS} == set(titles)
        await check_looks(page)
        await cards.last.get_by_role("button", name="Details").click()
        await page.get_by_role("dialog").get_by_role("heading").wait_for()
        await check_looks(page)
        assert await page.locator(RISKY).count() == 0


async def test_batch_is_followed_while_it_runs(page_of, connect, browser, expect, tmp_path):
    """Pictures appear one after the other while the owner works; nothing on the page could change the batch."""
    rows = ({"sku": f"{number}", "prompt": f"kite {number}"} for number in range(3))
    async with (
        connect() as session,
        session.batch(tmp_path / "run.db", rows, key="sku", model="dall-e-3", save=f"{tmp_path}/out/{{key}}") as batch,
        page_of(tmp_path / "run.db") as url,
        visiting(browser, url) as visit,
    ):
        page = visit.page
        await expect(page.get_by_text("Running")).to_be_visible()
        seen = 0
        async for outcome in batch:
            seen += 1
            picture = page.get_by_role("img", name=f"kite {outcome.key}", exact=True)
            await picture.evaluate("(image) => image.decode()")
        assert seen == 3
        await expect(page.get_by_text("3 of 3")).to_be_visible()
        assert await page.get_by_role("button", name="Generate").count() == 0
