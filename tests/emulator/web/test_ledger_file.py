"""The ledger in a file, line by line."""

import io
import json
import logging
import os
import shutil
from contextlib import suppress

import pytest

from lemon_async.emulator import Emulator, Fail


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_jobs_that_nobody_polls_are_settled_in_the_file(client_of, tmp_path, until):
    path = tmp_path / "ledger.jsonl"
    async with Emulator(durations=60, speed=6000, ledger_file=path) as emu:
        emu.fault("submit", Fail(), prompt="dog")
        client = client_of(emu)
        await client.submit("a cat", model="flux-pro")
        await client.submit("a dog", model="flux-pro")
        await until(lambda: len(lines(path)) == 4)
    kinds = {job: [line["kind"] for line in lines(path) if line["job"] == job] for job in ("a cat", "a dog")}
    assert kinds == {"a cat": ["reserve", "settle"], "a dog": ["reserve", "release"]}
    assert [line["number"] for line in lines(path)] == [1, 2, 3, 4]
    assert [line["at"] for line in lines(path)] == sorted(line["at"] for line in lines(path))


async def test_an_entry_is_in_the_file_before_the_response(client_of, tmp_path):
    path = tmp_path / "ledger.jsonl"
    async with Emulator(durations=1000, ledger_file=str(path)) as emu:
        await client_of(emu).submit(model="flux-pro")
        assert [line["kind"] for line in lines(path)] == ["reserve"]
        await emu.restart(keep_tasks=False)
        assert [line["kind"] for line in lines(path)] == ["reserve", "release"]
        await client_of(emu).submit(model="flux-pro")
    assert [line["number"] for line in lines(path)] == [1, 2, 3]


async def test_a_file_is_appended_to_and_a_torn_line_ended(client_of, tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"number": 1}\n{"num')
    async with Emulator(durations=0, ledger_file=path) as emu:
        await client_of(emu).submit(model="dall-e-3")
    first, torn, *rest = path.read_text().splitlines()
    assert (first, torn) == ('{"number": 1}', '{"num')
    assert [json.loads(line)["kind"] for line in rest] == ["reserve", "settle"]


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be deleted")
async def test_a_file_that_is_deleted_begins_again(client_of, tmp_path, library_log):
    """As a test may do before each case; a warning says from which entry on. A file that is moved is written on."""
    path = tmp_path / "ledger.jsonl"
    async with Emulator(durations=1000, ledger_file=path) as emu:
        await client_of(emu).submit(model="flux-pro")
        path.unlink()
        await client_of(emu).submit(model="flux-pro")
        assert [line["number"] for line in lines(path)] == [2]
        assert [record.getMessage() for record in library_log.records] == [
            "the ledger file was deleted; it begins again with entry 2"
        ]
        path.rename(tmp_path / "moved")
        await client_of(emu).submit(model="flux-pro")
    assert [line["number"] for line in lines(tmp_path / "moved")] == [2, 3]
    assert not path.exists()


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be deleted")
async def test_a_folder_that_is_deleted_ends_the_file(client_of, tmp_path, library_log):
    (folder := tmp_path / "logs").mkdir()
    async with Emulator(durations=0, ledger_file=folder / "ledger.jsonl") as emu:
        shutil.rmtree(folder)
        await client_of(emu).submit(model="dall-e-3")
    assert library_log.records[-1].getMessage() == "the ledger file ends before entry 1: it cannot be written"


async def test_a_file_that_cannot_be_written_is_an_error_before_serving(tmp_path):
    emu = Emulator(ledger_file=tmp_path)
    with pytest.raises(IsADirectoryError):
        await emu.start()
    assert emu.connections == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110 - not a regular path
async def test_a_full_disk_ends_the_file_and_not_the_emulator(client_of, library_log):
    async with Emulator(durations=0, ledger_file="/dev/full") as emu:
        with library_log.at_level(logging.ERROR):
            assert (await client_of(emu).submit(model="dall-e-3")).status == 200
        assert emu.ledger.settled == {"a cat": 1}
    assert [record.getMessage() for record in library_log.records] == [
        "the ledger file ends before entry 1: it cannot be written"
    ]


async def test_a_line_that_is_written_in_part_ends_the_file(client_of, tmp_path, library_log):
    """As on a disk that is full for a moment: another line would become a part of it."""

    class Full(io.FileIO):
        def write(self, line):
            return super().write(line[:20])

    path = tmp_path / "ledger.jsonl"
    async with Emulator(durations=0, ledger_file=path) as emu:
        emu._ledger_file._file.close()
        emu._ledger_file._file = Full(path, "ab")
        with library_log.at_level(logging.ERROR):
            assert (await client_of(emu).submit(model="dall-e-3")).status == 200
    assert path.stat().st_size == 20
    assert [record.getMessage() for record in library_log.records] == [
        "the ledger file ends before entry 1: it cannot be written"
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
class TestNamedPipe:
    """Its reader delays nothing: neither one that is not there, nor one that does not read."""

    @pytest.fixture
    def path(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        return tmp_path / "pipe"

    async def test_without_a_reader_it_is_an_error_before_serving(self, path):
        with pytest.raises(OSError, match="pipe"):
            await Emulator(ledger_file=path).start()

    async def test_it_is_written_while_it_is_read(self, client_of, path, library_log):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        async with Emulator(durations=0, ledger_file=path) as emu:
            await client_of(emu).submit(model="dall-e-3")
            written = [json.loads(line)["kind"] for line in os.read(reader, 10_000).splitlines()]
            assert written in (["reserve"], ["reserve", "settle"])
            os.close(reader)
            with library_log.at_level(logging.ERROR):
                assert (await client_of(emu).submit(model="dall-e-3")).status == 200
        assert [record.getMessage() for record in library_log.records] == [
            f"the ledger file ends before entry {len(written) + 1}: it cannot be written"
        ]

    async def test_a_reader_that_does_not_read_ends_it(self, client_of, path, library_log):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        async with Emulator(durations=0, ledger_file=path) as emu:
            filler = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            with suppress(BlockingIOError):
                while os.write(filler, bytes(4096)):
                    pass
            with library_log.at_level(logging.ERROR):
                assert (await client_of(emu).submit(model="dall-e-3")).status == 200
        os.close(filler)
        os.close(reader)
        assert len(library_log.records) == 1
