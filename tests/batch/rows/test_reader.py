"""Rows are read to their end and checked before any of them is yielded."""

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest

from lemon_async import GenerateRequest, LemonSession
from lemon_async.batch.rows.builder import columns_of, request_of
from lemon_async.batch.rows.reader import RowReader, run_in_thread
from lemon_async.errors import ContractError
from lemon_async.requests import EditRequest


def accept(request):
    return ()


@pytest.fixture
def open_reader():
    """Make readers, which are closed at the end."""
    opened = []

    def make(source, **options):
        opened.append(RowReader(source, **{"validate": accept, **options}))
        return opened[-1]

    yield make
    for reader in opened:
        reader.close()
        reader.close()


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("sku,prompt,folder\na,cat,x\nb,dog,\n")
    return path


async def all_rows(reader, **options):
    return [row async for chunk in reader.chunks(**options) for row in chunk]


@pytest.mark.parametrize("kind", [str, Path])
async def test_files_are_read(open_reader, csv_file, kind):
    """A path is a path in any form."""
    reader = open_reader(kind(csv_file), key="sku", fields={"model": "flux-pro"})
    rows = await all_rows(reader)
    assert [(row.key, columns_of(row)) for row in rows] == [("a", {"sku": "a", "folder": "x"}), ("b", {"sku": "b"})]
    assert request_of(rows[0]) == GenerateRequest("cat", model="flux-pro", label="a")
    assert (await reader.read()).columns == ("sku", "folder")


async def async_rows(rows):
    for row in rows:
        yield row


@pytest.mark.parametrize("make", [list, tuple, iter, async_rows])
async def test_iterables_are_read(open_reader, make):
    """Once, and of any kind."""
    reader = open_reader(make([{"id": number, "prompt": "x"} for number in range(2500)]), key="id")
    rows = await all_rows(reader)
    assert [row.key for row in rows] == [str(number) for number in range(2500)]
    assert await all_rows(reader) == rows
    assert (await reader.read()).rows == 2500


async def test_a_generator_is_read_once(open_reader):
    """A plan and a run can share it."""
    reader = open_reader(name for name in ["cat", "dog"])
    assert (await reader.read()).rows == 2
    assert await reader.read() is await reader.read()
    assert len(await all_rows(reader)) == 2


async def test_no_rows_are_handed_on_if_the_last_has_a_problem(open_reader, tmp_path):
    """A journal gets all rows or none; a plan counts the good ones."""
    path = tmp_path / "rows.csv"
    path.write_text("sku,prompt,n\n" + "".join(f"{number},x,1\n" for number in range(3000)) + "z,x,many\n")
    reader = open_reader(path, key="sku")
    with pytest.raises(ContractError, match="line 3002, n: must be a whole number, not 'many'"):
        await all_rows(reader)
    assert len(await all_rows(reader, is_checked=False)) == (await reader.read()).rows == 3000


async def test_problems_are_raised_together(open_reader):
    """The first 20, and the number of the others."""
    reader = open_reader([{"prompt": "x", "n": "?"}] * 1234)
    found = await reader.read()
    with pytest.raises(ContractError) as caught:
        found.check()
    assert len(caught.value.problems) == 21
    assert str(caught.value.problems[-1]) == "rows: 1,214 more problems"


@pytest.mark.parametrize(("name", "content"), [("a.csv", "prompt\n"), ("a.csv", "prompt\n\n,\n"), ("a.jsonl", "\n")])
async def test_files_without_rows_are_refused(open_reader, tmp_path, name, content):
    """It is the wrong file."""
    (tmp_path / name).write_text(content)
    with pytest.raises(ContractError, match="rows: the file has no rows"):
        await all_rows(open_reader(tmp_path / name))


async def test_empty_iterables_are_no_rows(open_reader):
    """A filter may leave nothing."""
    assert await all_rows(open_reader([])) == []


async def test_columns_that_are_missing_end_the_reading(open_reader, csv_file):
    """There is one problem, not one for each row."""
    found = await open_reader(csv_file, key="id").read()
    assert [str(problem) for problem in found.problems] == [
        "id: there is no such column; the columns are 'sku', 'prompt', 'folder'"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": b"x"}, "rows: must be a path or an iterable of rows, not one bytes; use a list"),
        ({"source": {"prompt": "x"}}, "rows: must be a path or an iterable of rows, not one dict; use a list"),
        ({"source": GenerateRequest("x")}, "not one GenerateRequest; use a list"),
        ({"source": 7}, "rows: must be a path or an iterable of rows, not int"),
        ({"key": 7}, "key: must be the name of a column, or a function of the row, not 7"),
        ({"key": " "}, "key: must be the name of a column, or a function of the row, not ' '"),
        ({"fields": {"sise": "x"}}, "sise: is not a field; did you mean size=?"),
        ({"fields": {"depth_map": "x"}}, "depth_map: is not a field (nothing"),
        ({"fields": {"model": []}}, "model: must be a model id, or a list of different ones, not []"),
        ({"fields": {"model": ["a", "a"]}}, "model: must be a model id, or a list of different ones"),
        ({"fields": {"model": 7}}, "model: must be a model id, or a list of different ones, not 7"),
    ],
)
def test_arguments_are_checked(options, message):
    """Before anything is read."""
    with pytest.raises(ContractError) as caught:
        RowReader(**{"source": [], "validate": accept, **options})
    assert message in str(caught.value)


async def test_digest_of_a_file_knows_content_and_options(open_reader, csv_file):
    """It changes with whatever changes rows, and with nothing else."""
    options = {"key": "sku", "fields": {"model": "flux-pro", "n": None}}
    digest = await open_reader(csv_file, **options).digest()
    assert digest == await open_reader(str(csv_file), key="sku", fields={"model": "flux-pro"}).digest()
    others = [
        await open_reader(csv_file, **options | {"key": None}).digest(),
        await open_reader(csv_file, **options | {"fields": {"model": "dall-e-3"}}).digest(),
        await open_reader(csv_file, **options | {"fields": {"image": Path("a.png")}}).digest(),
        await open_reader(csv_file, **options | {"fields": {"mask": "a.png"}}).digest(),
    ]
    csv_file.write_text(csv_file.read_text() + "c,hat,\n")
    others.append(await open_reader(csv_file, **options).digest())
    assert len({digest, *others}) == 6


async def test_what_cannot_be_compared_has_no_digest(open_reader, csv_file):
    """It is read again."""
    assert await open_reader(["x"]).digest() is None
    assert await open_reader(csv_file, key=len).digest() is None
    assert await open_reader(csv_file, fields={"image": b"PNG"}).digest() is None
    assert await open_reader(csv_file, fields={"extra": {"seed": object()}}).digest() is None
    with pytest.raises(ContractError, match="cannot be read from"):
        await open_reader(csv_file.with_name("none.csv")).digest()


async def test_pictures_are_examined_in_a_thread(open_reader):
    """Validation opens files; the event loop does not wait for them."""
    threads = set()

    def validate(request):
        threads.add(threading.current_thread())
        return LemonSession.validate(request)

    reader = open_reader([EditRequest("x", image="none.png", model="gpt-image-2")], validate=validate)
    found = await reader.read()
    assert "none.png" in str(found.problems[0])
    assert threading.main_thread() not in threads


async def test_faults_of_the_callers_iterable_are_its_own(open_reader):
    """They are raised as they are, and what is left of an iterator is not taken for all of it."""

    def broken():
        yield "x"
        raise ZeroDivisionError

    reader = open_reader(broken())
    with pytest.raises(ZeroDivisionError):
        await reader.read()
    with pytest.raises(ContractError, match="rows: is an iterator that was read in part; make a new one"):
        await reader.read()


async def test_a_file_is_read_again_after_a_fault(open_reader, tmp_path):
    """The rows before the fault are not added twice."""
    reader = open_reader(tmp_path / "rows.csv")
    with pytest.raises(ContractError, match="No such file"):
        await reader.read()
    (tmp_path / "rows.csv").write_text("prompt\nx\n")
    assert len(await all_rows(reader)) == 1


async def test_cancelling_ends_the_reading(open_reader, csv_file):
    """No thread goes on with a file that is closed."""
    started, release = threading.Event(), threading.Event()

    def validate(request):
        started.set()
        release.wait(60)
        return ()

    reading = asyncio.ensure_future(open_reader(csv_file, validate=validate).read())
    await asyncio.to_thread(started.wait)
    reading.cancel()
    await asyncio.sleep(0)
    assert not reading.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_errors_of_threads_are_raised():
    """With their own class."""
    assert await run_in_thread(hashlib.sha256, b"")
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 / 0)
