"""What every journal promises, for every store: a new one is added to `new_address`."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journals import PICTURE, accept, intend, new_row, new_rows, save
from lemon_async.batch.opening import open_journal
from lemon_async.batch.records import Change, NewRow, SavedPicture, Spending
from lemon_async.batch.states import State, Transition
from lemon_async.errors import ContractError, JournalError


@pytest.fixture(params=["sqlite", "postgres"])
def new_address(request, tmp_path_factory):
    """Return addresses of journals that do not exist yet, in one kind of store."""
    if request.param == "sqlite":
        return lambda: tmp_path_factory.mktemp("journal") / "run.db"
    return request.getfixturevalue("postgres").new_journal


@pytest.fixture
def reopen(new_address):
    """Open the journal of the test, as often as it is called."""
    address = new_address()
    return lambda **options: open_journal(address, **options, create=True)


@pytest.fixture
async def journal(reopen):
    async with reopen() as opened:
        yield opened


async def test_rows_are_added_in_order_and_start_as_new(journal):
    """With the content that they were given."""
    assert await journal.add([new_row("b", columns={"sku": 1}), new_row("a")]) == 2
    first, second = await journal.rows()
    assert (first.number, first.key, first.state, first.columns) == (0, "b", State.NEW, b'{"sku":1}')
    assert (second.number, second.key, second.request) == (1, "a", b'{"prompt":"a picture of a"}')
    assert (first.attempt, first.task, first.price_usd, first.sunk_usd, first.pictures) == (0, None, None, 0.0, ())


async def test_same_rows_again_are_no_new_rows(journal):
    """Also after they have changed, in another order, and twice in one call."""
    assert await journal.add([*new_rows(3), *new_rows(3)]) == 3
    await journal.record(intend("k1"))
    assert await journal.add(new_rows(5)[::-1]) == 2
    assert [row.key for row in await journal.rows()] == ["k0", "k1", "k2", "k4", "k3"]
    assert (await journal.counts())[State.NEW] == 4


async def test_key_with_other_content_is_refused_and_named(journal):
    """Both contents are shown; and nothing of the call is added."""
    await journal.add([new_row("a", size="1x1", columns={"shop": "x"})])
    with pytest.raises(ContractError) as caught:
        await journal.add([new_row("b"), new_row("a", size="2x2", columns={"shop": "y"})])
    assert str(caught.value) == (
        "row 'a': is in the journal with other content (size was '1x1' and is '2x2'; shop was 'x' and is 'y'); "
        "give it another key, or use another journal (nothing was added)"
    )
    assert [row.key for row in await journal.rows()] == ["a"]


async def test_rows_are_checked_without_being_added(journal):
    """The error is that of adding them."""
    await journal.add([new_row("a")])
    await journal.check([new_row("a"), new_row("b")])
    assert await journal.find("b") is None
    changed = [new_row("b"), new_row("a", size="2x2")]
    with pytest.raises(ContractError) as checked:
        await journal.check(changed)
    with pytest.raises(ContractError) as added:
        await journal.add(changed)
    assert str(checked.value) == str(added.value)


async def test_key_with_two_contents_in_one_call_is_refused(journal):
    """Neither is added."""
    with pytest.raises(ContractError, match=r"row 'a': .*mode was absent and is 1"):
        await journal.add([new_row("a"), new_row("a", mode=1)])
    assert not await journal.rows()


async def test_many_conflicts_are_summarised(journal):
    """Twenty are listed, and the others counted."""
    await journal.add(new_rows(30))
    with pytest.raises(ContractError) as caught:
        await journal.add([new_row(f"k{index}", size="2x2") for index in range(30)])
    assert len(caught.value.problems) == 21
    assert str(caught.value.problems[-1]) == "rows: 10 more differ from those in the journal"


@pytest.mark.parametrize("key", ["", "a b", "☃", "a\0b", "'; DROP TABLE rows; --", "k" * 10_000, "\u202e"])
async def test_any_text_is_a_key(journal, key):
    """It is stored as it is."""
    await journal.add([new_row(key)])
    assert await journal.record(intend(key)) is State.INTENT
    assert (await journal.find(key)).key == key


async def test_key_without_utf8_is_refused(journal):
    """And it is found nowhere."""
    with pytest.raises(ContractError, match="has no UTF-8 form"):
        await journal.add([NewRow("\udcff", b"{}", b"", b"d")])
    assert await journal.record(intend("\udcff")) is None
    assert await journal.find("\udcff") is None
    assert await journal.find("missing") is None


async def test_row_goes_from_intent_to_done(journal):
    """Each change brings its facts."""
    await journal.add([new_row("a")])
    assert await journal.record(intend("a")) is State.INTENT
    row = await journal.find("a")
    assert (row.attempt, row.fingerprint, row.price_usd, row.task) == (1, "f" * 64, 0.04, None)
    assert await journal.record(accept("a", "token")) is State.SOLD
    assert (await journal.find("a")).task == "token"
    other = SavedPicture("/elsewhere/a-2.png", 5, "11")
    assert await journal.record(save("a", 0.05, PICTURE, other)) is State.DONE
    row = await journal.find("a")
    assert (row.state, row.cost_usd, row.pictures) == (State.DONE, 0.05, (PICTURE, other))
    assert row.changed_at > 1.7e9


async def test_impossible_changes_write_nothing(journal):
    """Neither do those of rows that do not exist."""
    await journal.add([new_row("a")])
    before = await journal.find("a")
    assert await journal.record(save("a", 1.0, PICTURE)) is None
    assert await journal.record(accept("b")) is None
    assert await journal.find("a") == before
    assert await journal.owner_of(PICTURE.path) is None


async def test_changes_of_one_row_in_one_group_follow_each_other(journal):
    """The second sees the first, although both wait for the same commit."""
    await journal.add([new_row("a")])
    changes = [intend("a"), intend("a"), Change(key="a", transition=Transition.WITHDRAW), intend("a"), accept("a")]
    results = await asyncio.gather(*[journal.record(change) for change in changes])
    assert results == [State.INTENT, None, State.NEW, State.INTENT, State.SOLD]


async def test_late_truth_is_accepted(journal):
    """A doubtful row whose task turns up is sold."""
    await journal.add([new_row("a")])
    for transition in (Transition.INTEND, Transition.DOUBT):
        await journal.record(Change(key="a", transition=transition))
    assert await journal.record(accept("a")) is State.SOLD


async def test_cap_is_never_exceeded_by_intents_together(journal):
    """Of 400 intents at 4 cents that are recorded at the same time, 250 fit into 10 dollars."""
    await journal.add(new_rows(400))
    results = await asyncio.gather(*[journal.record(intend(f"k{index}", 0.04, 10.0)) for index in range(400)])
    assert results == [State.INTENT] * 250 + [None] * 150
    assert (await journal.spending()).reserved == 10.0
    assert (await journal.counts())[State.NEW] == 150


async def test_counts_name_every_state(journal):
    """Also those without rows."""
    assert await journal.counts() == dict.fromkeys(State, 0)


async def test_rows_are_filtered_and_paged(journal):
    """By states, in order of their numbers, from a number on."""
    await journal.add(new_rows(10))
    for key in ("k1", "k4", "k7"):
        await journal.record(intend(key))
    await journal.record(accept("k4"))
    names = lambda rows: [row.key for row in rows]  # noqa: E731 - short
    assert names(await journal.rows(State.INTENT)) == ["k1", "k7"]
    assert names(await journal.rows(State.SOLD, State.INTENT)) == ["k1", "k4", "k7"]
    assert names(await journal.rows(State.NEW, after=4, limit=2)) == ["k5", "k6"]
    assert names(await journal.rows(State.NEW, State.SOLD, after=3, limit=2)) == ["k4", "k5"]
    assert names(await journal.rows(after=7)) == ["k8", "k9"]
    assert not await journal.rows(State.DEAD)


async def test_notes_are_kept_and_replaced(reopen):
    """Across runs."""
    async with reopen() as journal:
        assert await journal.read_note("save") is None
        await journal.write_note("save", "out/{key}")
        await journal.write_note("save", "other/{key} \udcff")
    async with reopen() as journal:
        assert await journal.read_note("save") == "other/{key} \\udcff"


@pytest.mark.parametrize("path", ["out/a.png", "out/☃.png", "out/\udcff.png", "C:\\out\\a.png"])
async def test_owner_of_a_file_is_found(journal, path):
    """Whatever the name of the file is."""
    await journal.add([new_row("a")])
    for change in (intend("a"), accept("a"), save("a", None, SavedPicture(path, 1, "00"))):
        await journal.record(change)
    assert await journal.owner_of(path) == "a"
    assert (await journal.find("a")).pictures[0].path == path
    assert await journal.owner_of("other.png") is None


async def test_error_text_of_any_file_name_is_stored(journal):
    """Names that are not UTF-8 are escaped."""
    await journal.add([new_row("a")])
    await journal.record(Change(key="a", transition=Transition.REFUSE, error="cannot read '\udcff☃'"))
    assert (await journal.find("a")).error == "cannot read '\\udcff☃'"


async def test_changes_survive_closing(reopen):
    """Rows, sums, notes and pictures are there in the next run."""
    async with reopen() as journal:
        await journal.add(new_rows(3))
        for change in (intend("k0"), accept("k0"), save("k0", 0.05, PICTURE), intend("k1"), accept("k1")):
            await journal.record(change)
        before = await journal.rows(), await journal.counts(), await journal.spending()
    async with reopen() as journal:
        assert (await journal.rows(), await journal.counts(), await journal.spending()) == before
        assert await journal.add([new_row("z")]) == 1
        assert (await journal.find("z")).number == 3


async def test_closing_writes_what_is_queued(reopen):
    """Also changes that are not awaited."""
    async with reopen() as journal:
        await journal.add(new_rows(500))
        for index in range(500):
            journal.record(Change(key=f"k{index}", transition=Transition.REFUSE, error="no"))
    async with reopen() as journal:
        assert (await journal.counts())[State.REFUSED] == 500


async def test_rows_of_a_dead_owner_are_doubtful(reopen):
    """An intent without a recorded end may have been sold; inline pictures that were not saved are lost."""
    async with reopen() as journal:
        await journal.add(new_rows(5))
        for change in (intend("k0"), intend("k1"), accept("k1", None), intend("k2"), accept("k2"), intend("k3")):
            await journal.record(change)
        await journal.record(Change(key="k3", transition=Transition.WITHDRAW))
    async with reopen() as journal:
        rows = {row.key: row for row in await journal.rows()}
        assert [str(row.state) for row in rows.values()] == ["doubtful", "dead", "sold", "new", "new"]
        assert rows["k0"].error == "the process ended before the response to its request was recorded"
        assert rows["k1"].error == "answered inline; the process ended before its pictures were saved"
        assert await journal.spending() == Spending(spent=0.04, reserved=0.04, doubtful=0.04)


async def test_cancelled_wait_loses_nothing(journal):
    """The change is written all the same."""
    await journal.add([new_row("a")])

    async def wait():
        await journal.record(intend("a"))

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await journal.find("a")).state is State.INTENT


async def test_cancelled_addition_is_whole(journal):
    """All rows are there, as when it is not cancelled."""
    adding = asyncio.ensure_future(journal.add(new_rows(500)))
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.wait([adding])
    assert (await journal.counts())[State.NEW] == 500


async def test_closed_journal_is_refused(reopen):
    """Every method says so; closing again does nothing."""
    async with reopen() as journal:
        await journal.aclose()
        await journal.aclose()
        for call in (journal.add([]), journal.record(intend("a")), journal.counts(), journal.read_note("x")):
            with pytest.raises(JournalError, match="is closed"):
                await call


async def test_journal_of_another_service_is_refused(reopen):
    """Its tasks would not be found there; a final slash makes no difference."""
    async with reopen(base_url="https://one.example/v1/"):
        pass
    async with reopen(base_url="https://one.example/v1"), asyncio.timeout(60):
        pass
    async with reopen():
        pass
    with pytest.raises(JournalError, match=r"are for https://one\.example/v1, and this session is for http://other"):
        async with reopen(base_url="http://other"):
            pass


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(Transition),
        st.sampled_from([None, 0.01, 0.04, 0.1]),
        st.sampled_from([None, 0.0, 0.05]),
        st.sampled_from([None, 0.05, 0.3]),
    ),
    max_size=40,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(EVENTS)
def test_sums_and_rows_are_the_same_after_reopening(new_address, transitions):
    """What is kept up to date in memory is what the tables say, whatever happened."""
    changes = [
        Change(key=f"k{index}", transition=transition, price_usd=price, cost_usd=cost, cap_usd=cap, task="token")
        for index, transition, price, cost, cap in transitions
    ]

    async def check():
        address = new_address()
        async with open_journal(address, create=True) as journal:
            await journal.add(new_rows(5))
            await asyncio.gather(*[journal.record(change) for change in changes])
            for index in range(5):
                await journal.record(Change(key=f"k{index}", transition=Transition.DOUBT))  # as reopening does
            before = await journal.rows(), await journal.counts(), await journal.spending()
        async with open_journal(address) as journal:
            after = await journal.rows(), await journal.counts(), await journal.spending()
        assert [without_clock(row) for row in after[0]] == [without_clock(row) for row in before[0]]
        assert after[1:] == before[1:]

    asyncio.run(check())


def without_clock(row):
    return {name: getattr(row, name) for name in ("key", "state", "attempt", "price_usd", "cost_usd", "sunk_usd")}


async def test_last_rows_come_first(journal):
    """In some states or in all, below a number."""
    await journal.add(new_rows(6))
    for change in (intend("k1"), accept("k1"), save("k1", 0.04, PICTURE), intend("k4")):
        await journal.record(change)
    assert [row.number for row in await journal.last_rows()] == [5, 4, 3, 2, 1, 0]
    assert [row.number for row in await journal.last_rows(before=3, limit=2)] == [2, 1]
    assert [row.number for row in await journal.last_rows(State.NEW, State.DONE, before=5)] == [3, 2, 1, 0]
    assert (await journal.last_rows(State.DONE))[0] == await journal.find("k1")
    assert not await journal.last_rows(State.DEAD)
