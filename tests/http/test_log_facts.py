"""Records about a job say which, in fields that formatters show; levels are what operators expect."""

import ast
import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import lemon_async
from lemon_async import RetryPolicy, SubmissionUnknown
from lemon_async._http.log_facts import about_job
from lemon_async.emulator import Blackhole, Status, Stuck

PACKAGE = Path(lemon_async.__file__).parent
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
# Records that concern no single job, and why.
ABOUT_NO_JOB = [
    ("_http/emitter.py", "log", "a function of the program has failed"),
    ("_http/shared_limit/client.py", "error", "the client of the store has crashed"),
    ("_http/shared_limit/client.py", "info", "the store can be used again"),
    ("_http/shared_limit/client.py", "warning", "the store cannot be used"),
    ("_tasks/poller.py", "error", "the poller has crashed, with all its tasks"),
    ("_tasks/progress.py", "exception", "a display has failed"),
    ("batch/running/feed.py", "warning", "other runs hold the rows"),
    ("batch/store/sqlite/socket_file.py", "debug", "the rows are not served to watchers"),
    ("batch/watching/row_server.py", "debug", "the rows are not served to watchers"),
    ("batch/watching/row_server.py", "debug", "a watcher was dropped"),
    ("distributed/fleet.py", "warning", "a worker has died"),
    ("_web/summaries.py", "exception", "the page of the studio or of a batch, not a job"),
    ("emulator/web/ledger_file.py", "error", "a file of the emulator"),
    ("emulator/web/ledger_file.py", "warning", "a file of the emulator"),
]
MODEL = "flux-pro"
QUICK = RetryPolicy(first_backoff_s=0.001, max_backoff_s=0.002)


def nodes():
    """Return every node of the modules that log, with its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "logg" in (text := path.read_text()):
            yield from ((path, node) for node in ast.walk(ast.parse(text)))


def calls():
    """Return every call of a method of a logger, with its file."""
    for path, node in nodes():
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=attr)) if attr in METHODS:
                yield path.relative_to(PACKAGE).as_posix(), attr, node


def test_every_record_about_a_job_has_the_fields():
    """Each call of a logger passes `extra`, or the table above says why it concerns no job."""
    found = [(path, attr, any(word.arg == "extra" for word in call.keywords)) for path, attr, call in calls()]
    without = [(path, attr) for path, attr, has_extra in found if not has_extra]
    assert sorted(without) == sorted(place[:2] for place in ABOUT_NO_JOB)
    assert len(found) > len(without) + 8


def test_no_module_logs_in_another_way():
    """Otherwise the test above would not see it."""
    for path, node in nodes():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "logging":
            assert node.attr not in METHODS | {"warn"}, path


def test_fields_are_no_attributes_of_records():
    """`logging` raises `KeyError` for a field that would replace one of its own."""
    own = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    assert not own & about_job().keys()
    assert about_job().keys() == {"task_id", "model", "attempt"}


def test_warnings_of_a_program_that_configures_no_logging_reach_stderr():
    """A `NullHandler` would hide what concerns money."""
    code = "import logging, lemon_async.session; logging.getLogger('lemon_async.pending').warning('2 tasks: a, b')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == "2 tasks: a, b\n"


class Json(logging.Formatter):
    """A formatter as services use it: everything that a record has beside the standard attributes, too."""

    def format(self, record):
        own = vars(logging.makeLogRecord({})).keys()
        extra = {name: value for name, value in vars(record).items() if name not in own}
        return json.dumps({"level": record.levelname, "message": record.getMessage(), **extra})


@pytest.fixture
def lines(caplog):
    """Return the records of the library, through a formatter that writes JSON."""
    caplog.set_level(logging.DEBUG, logger="lemon_async")
    formatter = Json()

    def read():
        ours = [record for record in caplog.records if record.name.startswith("lemon_async")]
        return [json.loads(formatter.format(record)) for record in ours]

    return read


def facts(line):
    return line["level"], line["task_id"], line["model"], line["attempt"]


async def test_request_that_is_sent_again_is_information(connect, emulator, lines):
    """Nobody needs to act; the record says which model and which attempt."""
    emulator.fault("submit", Status(429), times=2)
    async with connect(retry=QUICK) as session:
        await session.generate("a cat", model=MODEL)
    assert [facts(line) for line in lines()] == [("INFO", None, MODEL, 1), ("INFO", None, MODEL, 2)]


async def test_request_that_may_be_bought_twice_is_a_warning(connect, emulator, lines):
    """The program wants it sent again although its outcome is unknown."""
    emulator.fault("submit", Status(502, "html"), times=1)
    policy = RetryPolicy(first_backoff_s=0.001, max_backoff_s=0.002, resubmit_unknown=True)
    async with connect(retry=policy) as session:
        await session.generate("a cat", model=MODEL)
    assert [facts(line) for line in lines()] == [("WARNING", None, MODEL, 1)]


async def test_cancelled_request_that_was_sent_is_a_warning(connect, emulator, lines):
    """Code that cancels rarely looks at the cause: the record is how anyone learns of it."""
    emulator.fault("submit", Status(429), times=1)
    emulator.fault("submit", Blackhole(), times=1)
    async with connect(retry=QUICK) as session:
        submitting = asyncio.create_task(session.submit("a cat", model=MODEL))
        async with asyncio.timeout(60):
            while emulator.ledger.sold.total() < 1:
                await asyncio.sleep(0.001)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await submitting
    assert isinstance(caught.value.__cause__, SubmissionUnknown)
    assert [facts(line) for line in lines()] == [("INFO", None, MODEL, 1), ("WARNING", None, MODEL, 2)]


async def test_polls_that_fail_name_their_task(connect, emulator, lines):
    """Single failures are details; from the third in a row on, somebody should look."""
    emulator.fault("poll", Status(502, "html"), times=4)
    async with connect() as session:
        task = await session.submit("a cat", model=MODEL)
        await task
    about = [facts(line) for line in lines()]
    assert about[:3] == [("DEBUG", task.id, MODEL, number) for number in (1, 2, 3)]
    assert about[3:] == [("WARNING", task.id, MODEL, 3), ("DEBUG", task.id, MODEL, 4)]


async def test_list_of_tasks_has_their_ids(connect, emulator, lines):
    """So that a program can resume what a session has left from its log."""
    emulator.fault("submit", Stuck())
    async with connect() as session:
        tasks = [await session.submit(f"cat {number}", model=MODEL) for number in range(2)]
    (line,) = lines()
    assert (line["level"], line["task_ids"]) == ("WARNING", [task.id for task in tasks])
