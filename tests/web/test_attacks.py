"""Attacks in prompts, models and errors appear as text in the studio, and run nothing."""

import json

import aiohttp
import pytest

from attacks import ATTACKS, LONG
from chromium import LOOKS, show_as
from lemon_async.emulator import Fail

pytestmark = pytest.mark.usefixtures("undrawn")
RISKY = "[onerror], [onload], [onfocus], svg, script:not([src]), a[href^=javascript]"


@pytest.fixture
async def send(studio):
    """Send a request for a picture, whatever its fields contain; return the status."""
    headers = {"Authorization": f"Bearer {studio.api_key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(studio.base_url, headers=headers) as client:

        async def post(prompt, model="dall-e-3"):
            body = json.dumps({"prompt": prompt, "model": model})
            async with client.post("/v1/images/generations", data=body) as response:
                await response.read()
                return response.status

        yield post


def shown(text):
    """Return text as a page has it: UTF-16 without halves of pairs, in one line of white space."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def read(page, selector):
    await page.wait_for_selector(selector)
    return await page.locator(selector).evaluate_all("(nodes) => nodes.map((node) => node.textContent)")


async def test_attacks_are_text_in_the_gallery(visit, studio, send):
    """As prompt, revised prompt and reason of a failure, in cards and in their dialogs."""
    accepted = [text for text in ATTACKS.values() if await send(text) == 200]
    assert len(accepted) >= len(ATTACKS) - 2
    page = (await visit(studio.base_url)).page
    titles = await read(page, "#pictures h3")
    assert {shown(text) for text in accepted} <= set(titles)
    for title in await page.locator("#pictures").get_by_role("button", name="Details").all():
        await title.click()
        await page.keyboard.press("Escape")
    assert await page.locator(RISKY).count() == 0


async def test_attacks_are_text_as_reasons(visit, studio, send, expect):
    """A failed task shows the reason that the provider gave."""
    fault = studio.fault("submit", Fail(ATTACKS["script"]))
    assert await send("a kite", "midjourney") == 200
    assert fault.hits == 1
    page = (await visit(studio.base_url)).page
    await expect(page.locator("#pictures").get_by_text(ATTACKS["script"])).to_be_visible()
    assert await page.locator(RISKY).count() == 0


async def test_attacks_are_text_in_the_request_log(visit, studio, send):
    """As names of models that do not exist, and in what is shown for a replay."""
    for text in ATTACKS.values():
        assert await send("a kite", text) == 400
    page = (await visit(f"{studio.base_url}/#requests")).page
    subjects = "\n".join(await read(page, "#requests tbody tr"))
    readable = {name for name, text in ATTACKS.items() if text in subjects}
    assert readable == ATTACKS.keys() - {"surrogate"}  # which is no JSON
    for button in await page.locator("#requests").get_by_role("button", name="Details of request").all():
        await button.click()
        await page.locator("#dialog-body > *").first.wait_for()
        await page.keyboard.press("Escape")
    assert await page.locator(RISKY).count() == 0


async def test_long_text_does_not_break_the_page(visit, studio, send):
    """Prompts and names of 100,000 characters are cut or wrapped: the page is no wider than any window."""
    await send(LONG)
    await send("a kite", LONG)
    await send("a kite")
    page = (await visit(studio.base_url)).page
    for view in ["pictures", "requests", "ledger"]:
        await page.goto(f"{studio.base_url}/#{view}")
        await read(page, f"#{view} [data-items] > *")
        await check_width(page)
    await page.get_by_role("link", name="Pictures", exact=True).click()
    await page.locator("#pictures").get_by_role("button", name="Details").first.click()
    await check_width(page)


async def check_width(page):
    for scheme, width in LOOKS:
        await show_as(page, scheme, width)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
