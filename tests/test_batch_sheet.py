"""Contact sheets of batches, from their journals alone."""

import re

import pytest

from lemon_async import ContractError
from lemon_async._batch_sheet import SavedFile, entry_of
from lemon_async.batch.opening import open_journal
from lemon_async.batch.records import Change, JournalRow
from lemon_async.batch.states import State, Transition
from lemon_async.sheet import batch_sheet
from saved_rows import add, finish, picture, sell

ATTACK = '"><img src=x onerror=alert(1)>'


@pytest.fixture
async def journal(tmp_path):
    async with open_journal(tmp_path / "run.db", create=True) as opened:
        yield opened


def totals(html):
    summary = re.search(r'<dl class="sum">(.*?)</dl>', html, re.DOTALL)[1]
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", summary))


async def one_in_every_state(journal, folder):
    """Add a row in each state, which is its key."""
    for state in State:
        await add(journal, str(state), columns={"colour": "red"})
    await finish(journal, "done", folder, picture("WEBP"), picture("WEBP"), cost_usd=0.04)
    await journal.record(Change(key="refused", transition=Transition.REFUSE, error="moderation: no"))
    await journal.record(Change(key="intent", transition=Transition.INTEND, fingerprint="f00d"))
    for key in ("doubtful", "failed", "dead", "sold"):
        await sell(journal, key, price_usd=0.5) if key != "doubtful" else await journal.record(
            Change(key=key, transition=Transition.INTEND, fingerprint="f00d", price_usd=0.5)
        )
    await journal.record(Change(key="doubtful", transition=Transition.DOUBT, error="connection lost"))
    await journal.record(Change(key="failed", transition=Transition.FAIL, error="out of luck"))
    await journal.record(Change(key="dead", transition=Transition.LOSE, error="the task is lost"))


async def test_sheet_shows_every_row_of_an_unfinished_batch(journal, tmp_path):
    """Pictures of rows that are done, reasons of those that went wrong, the state of each, and the sums."""
    await one_in_every_state(journal, tmp_path / "out")
    shown = await batch_sheet(journal, tmp_path / "sheet.html", title="Run")
    html = (tmp_path / "sheet.html").read_text()
    assert shown.html == html
    cards = re.findall(r'<p class="no">Job (\d) &middot; <bdi>(\w+)</bdi> &middot; (\w+)</p>', html)
    assert cards == [(str(number), str(state), str(state)) for number, state in enumerate(State)]
    assert re.findall(r'href="(out/.*?)"', html) == ["out/done-0.png", "out/done-1.png"]
    assert html.count('<img src="data:image/webp;base64,') == 2
    faults = re.findall(r'<div class="fault"><strong>(.*?)</strong><p[^>]*>(.*?)</p>', html)
    assert faults == [
        ("Refused", "moderation: no"),
        ("Doubtful", "connection lost"),
        ("Failed", "out of luck"),
        ("Dead", "the task is lost"),
    ]
    head = totals(html)
    assert head | {str(state).capitalize(): "1" for state in State} == head
    assert (head["Rows"], head["Pictures"]) == ("8", "2")
    assert (head["Spent (USD)"], head["In doubt (USD)"], head["Reserved (USD)"]) == ("0.54", "0.50", "0.50")
    assert "<dt>colour</dt>" in html
    assert "<dt>Task</dt>" in html


async def test_sheet_of_an_empty_journal_says_so(journal):
    html = (await batch_sheet(journal)).html
    assert "There is nothing to show yet" in html
    assert totals(html) == {"Rows": "0", "Pictures": "0"}


async def test_sheet_escapes_what_rows_hold(journal, tmp_path):
    """Keys, prompts, columns and errors come from elsewhere."""
    await add(journal, ATTACK, prompt=ATTACK, model=ATTACK, columns={ATTACK: ATTACK, "list": [ATTACK]})
    await add(journal, "done")
    await finish(journal, "done", tmp_path, names=[ATTACK.replace("/", "") + ".png"])
    await journal.record(Change(key=ATTACK, transition=Transition.REFUSE, error=ATTACK))
    html = (await batch_sheet(journal, tmp_path / "sheet.html", title=ATTACK)).html
    assert "<img src=x" not in html
    assert html.count("&lt;img src=x") >= 6


@pytest.mark.parametrize("content", [None, b"other"])
async def test_picture_that_is_missing_or_has_changed_is_named(content, journal, tmp_path):
    await add(journal, "a")
    (path,) = await finish(journal, "a", tmp_path)
    path.unlink()
    if content:
        path.write_bytes(content)
    html = (await batch_sheet(journal)).html
    assert "the file is missing, or is not the one that was saved" in html
    assert totals(html)["Pictures"] == "1, 1 of them not shown"


async def test_sheet_shows_the_first_rows_of_many(journal, monkeypatch):
    """The head counts the others."""
    monkeypatch.setattr("lemon_async.sheet._MAX_ROWS", 2)
    for key in "abc":
        await add(journal, key)
    html = (await batch_sheet(journal)).html
    assert re.findall(r"<bdi>(\w)</bdi>", html) == ["a", "b"]
    assert totals(html)["Rows"] == "3, the first 2 of them shown"


async def test_thumbnails_of_many_pictures_are_smaller(journal, tmp_path, monkeypatch):
    await add(journal, "a")
    await finish(journal, "a", tmp_path, picture(size=(500, 500)))
    large = (await batch_sheet(journal)).html
    monkeypatch.setattr("lemon_async.sheet._MANY_PICTURES", 0)
    assert len((await batch_sheet(journal)).html) < len(large) - 5000


async def test_sheet_that_cannot_be_written_is_refused(journal, tmp_path):
    for path, title in ((tmp_path, "a"), (tmp_path / "sheet.html", 5)):
        with pytest.raises(ContractError):
            await batch_sheet(journal, path, title=title)


async def test_file_is_read_only_if_it_has_its_size(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12")
    assert await SavedFile(path, 2).content() == b"12"
    with pytest.raises(OSError, match="not the one that was saved"):
        await SavedFile(path, 3).content()


def test_card_of_a_row_that_goes_on_has_no_fault():
    """Its last error is a fact, as is its price."""
    row = JournalRow(
        number=3,
        key="a",
        state=State.SOLD,
        request=b"{}",
        task="no token",
        attempt=2,
        price_usd=0.04,
        error="timed out",
    )
    card = entry_of(row, ())
    assert card.fault is None
    assert dict(card.facts) == {"Last error": "timed out", "Task": "no token", "Attempt": "2", "Price": "$0.0400"}


def test_card_of_a_doubtful_row_helps_to_look_it_up():
    """It has the fingerprint, and says what to do."""
    row = JournalRow(number=0, key="a", state=State.DOUBTFUL, request=b"{}", fingerprint="f00d", changed_at=1.7e9)
    card = entry_of(row, ())
    assert card.fault.reason == "may have been sold: look it up, then resolve it"
    assert dict(card.facts) == {"Fingerprint": "f00d", "Changed": "2023-11-14 22:13 UTC"}
