"""The studio in a browser: what a user does with it, from a prompt to a replay."""

import asyncio
import os
import shutil
import sys

import pytest

from lemon_async.emulator import Script, Status

KITE = "a red kite above the dunes"


@pytest.fixture
async def open_studio(visit, studio):
    """Open the studio of the emulator, at one of its views."""

    async def open_at(view="pictures"):
        return await visit(f"{studio.base_url}/#{view}")

    return open_at


async def tab_to(page, locator):
    """Press Tab until an element has the focus."""
    for _ in range(60):
        if await locator.evaluate("(element) => element === document.activeElement"):
            return
        await page.keyboard.press("Tab")
    pytest.fail("the keyboard does not reach it")


async def make_picture(page, prompt):
    await page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    await page.get_by_role("button", name="Generate").click()


def card_of(page, prompt):
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=prompt))


async def wait_until_shown(image):
    """Wait until a picture is decoded."""
    assert await image.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") > 0


async def test_a_picture_is_made_with_the_keyboard_alone(open_studio, expect):
    """Prompt, model and button are reached with Tab; the picture arrives by itself, and opens and closes with keys."""
    page = (await open_studio()).page
    await tab_to(page, page.get_by_role("textbox", name="Prompt", exact=True))
    await page.keyboard.press("Control+A")
    await page.keyboard.type(KITE)
    await tab_to(page, page.get_by_role("button", name="Generate"))
    await page.keyboard.press("Enter")
    card = card_of(page, KITE)
    picture = card.get_by_role("img", name=KITE)
    await wait_until_shown(picture)
    details = card.get_by_role("button", name=f"Details of {KITE}")
    await tab_to(page, details)
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=KITE)
    await wait_until_shown(dialog.get_by_role("img"))
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(details).to_be_focused()


async def test_pictures_of_other_programs_arrive_by_themselves(open_studio, expect, connect, studio):
    """A task that another program submits appears as pending, and as a picture once it has ended."""
    page = (await open_studio()).page
    studio.fault("submit", Script(["pending", "pending", "completed"]))
    await expect(page.get_by_text("No pictures yet.")).to_be_visible()
    async with connect() as session:
        await session.generate(KITE, model="midjourney")
        await wait_until_shown(card_of(page, KITE).get_by_role("img").first)


async def test_a_fault_is_switched_on_seen_and_gone(open_studio, expect, studio):
    """The form adds a 502 to the next submit: the page shows it, the request log, too; the one after succeeds."""
    visit = await open_studio("faults")
    page = visit.page
    form = page.get_by_role("form", name="Add a fault")
    await form.get_by_label("Route").select_option("submit")
    await form.get_by_label("Action").select_option("Status")
    await form.get_by_label("status", exact=True).fill("502")
    await form.locator("[name='action.body']").select_option("html")
    await form.get_by_label("Times, at most").fill("1")
    await form.get_by_role("button", name="Add fault").click()
    await expect(page.get_by_role("listitem").filter(has_text="submit: Status")).to_be_visible()
    assert [fault.route for fault in studio.faults] == ["submit"]

    await make_picture(page, KITE)
    jobs = page.get_by_role("list", name="What became of the requests from this page")
    await expect(jobs).to_contain_text("Outcome unknown: 502")
    visit.forget("502")
    await page.get_by_role("link", name="Requests").click()
    row = page.get_by_role("row").filter(has_text=KITE)
    await expect(row.get_by_role("cell", name="502")).to_be_visible()

    await jobs.get_by_role("button", name=f"Send again: {KITE}").click()
    await expect(jobs).to_contain_text("The picture is here")
    await expect(row.get_by_role("cell", name="200").first).to_be_visible()
    assert studio.ledger.sold[KITE] == 1


async def test_a_preset_is_switched_on_and_off(open_studio, expect, studio):
    """Switches say whether they are on, also after another program has removed the fault."""
    page = (await open_studio()).page
    switch = page.get_by_role("button", name="Most polls: 502 page")
    await switch.click()
    await expect(page.get_by_role("button", name="Most polls: 502 page", pressed=True)).to_be_visible()
    assert [fault.route for fault in studio.faults] == ["poll"]
    studio.clear_faults()
    await expect(page.get_by_role("button", name="Most polls: 502 page", pressed=False)).to_be_visible()
    await switch.click()
    await expect(page.get_by_role("button", name="Most polls: 502 page", pressed=True)).to_be_visible()
    await switch.click()
    await expect(page.get_by_role("button", name="Most polls: 502 page", pressed=False)).to_be_visible()
    assert studio.faults == []


@pytest.fixture
async def replays(open_studio, connect, studio):
    """The dialog of a request that was sent with quotes and line breaks in its prompt."""
    prompt = 'it\'s a "kite"\n$HOME `id` \\n 風箏 🪁'
    async with connect() as session:
        await session.generate(prompt, model="dall-e-3")
    page = (await open_studio("requests")).page
    await page.get_by_role("button", name="Details of request 1", exact=True).click()
    return prompt, page.get_by_role("dialog")


@pytest.mark.parametrize(("title", "command"), [("curl", ["bash", "-eu"]), ("Python", [sys.executable, "-"])])
async def test_replays_run_as_they_are(replays, studio, title, command, tmp_path):
    """The command and the program that the page shows send the same request again, and it is sold again."""
    if title == "curl" and shutil.which("curl") is None:
        pytest.skip("no curl here")
    prompt, dialog = replays
    code = await dialog.get_by_role("region", name=title).inner_text()
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "LEMONDATA_API_KEY": studio.api_key}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=tmp_path, env=environment
    )
    _, errors = await process.communicate(code.encode())
    assert process.returncode == 0, errors.decode()
    assert studio.ledger.sold[prompt] == 2


async def test_request_is_sent_again_from_the_page(replays, expect, studio):
    """`Send again` goes through the public API, as another job."""
    prompt, dialog = replays
    await dialog.get_by_role("button", name="Send again").click()
    await expect(dialog.page.get_by_text("The picture is here").nth(1)).to_be_visible()
    assert studio.ledger.sold[prompt] == 2


async def test_ledger_is_filtered(open_studio, expect, connect):
    """What was reserved and settled is listed; a filter leaves one kind of entry."""
    async with connect() as session:
        await session.generate(KITE, model="midjourney")
    page = (await open_studio("ledger")).page
    entries = page.get_by_role("region", name="Table of entries").get_by_role("row").filter(has_text="midjourney")
    await expect(entries).to_have_count(2)
    await page.get_by_role("search", name="Filter the ledger").get_by_label("Entry").select_option("settle")
    await expect(entries).to_have_count(1)
    await expect(entries).to_contain_text("settle")
    await expect(page.locator("#ledger [data-total]")).to_have_text("1 entry matches")


async def test_details_say_what_another_request_costs(open_studio, expect, connect):
    """A poll costs nothing, and a download cannot be sent again from the page."""
    async with connect() as session:
        images = await session.generate(KITE, model="flux-pro")
        await images[0].read()
    page = (await open_studio("requests")).page
    for route, words in (
        ("submit", "with its own price"),
        ("poll", "It costs nothing"),
        ("cdn", "Only paid requests and polls"),
    ):
        await page.get_by_role("search", name="Filter requests").get_by_label("Route").select_option(route)
        row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=route, exact=True)).first
        await row.get_by_role("button").click()
        await expect(page.get_by_role("dialog")).to_contain_text(words)
        await page.keyboard.press("Escape")


async def test_focus_stays_in_the_view_when_all_faults_are_removed(open_studio, expect, studio):
    """The button hides itself: whoever uses the keyboard goes on beside it, not at the top of the page."""
    studio.fault("poll", Status(502))
    page = (await open_studio("faults")).page
    await page.get_by_role("button", name="Remove all").press("Enter")
    await expect(page.get_by_text("No fault is on")).to_be_visible()
    await expect(page.get_by_role("heading", name="Faults", exact=True)).to_be_focused()


async def test_mistakes_are_explained(open_studio, expect):
    """An unknown model, JSON that is none and a fault that cannot be: each message is beside its form."""
    visit = await open_studio("faults")
    page = visit.page
    await page.get_by_text("More fields").click()
    await page.get_by_label("As a JSON object").fill("{")
    await page.get_by_role("button", name="Generate").click()
    await expect(page.get_by_role("alert").filter(has_text="write one JSON object")).to_be_visible()
    await page.get_by_label("As a JSON object").fill("")
    await page.get_by_label("Model", exact=True).first.fill("no-such-model")
    await page.get_by_role("button", name="Generate").click()
    await expect(page.get_by_text("Nothing was sold").nth(1)).to_be_visible()
    await page.get_by_label("Model", exact=True).first.fill("dall-e-3")
    await page.get_by_label("Size").fill("5x5")
    await page.get_by_role("button", name="Generate").click()
    await expect(page.get_by_text("1024x1792. Nothing was sold.").nth(1)).to_be_visible()
    form = page.get_by_role("form", name="Add a fault")
    await form.get_by_label("Prompt").fill("(")
    await form.get_by_role("button", name="Add fault").click()
    await expect(form.get_by_role("alert")).not_to_be_empty()
    visit.forget("Failed to load resource")
