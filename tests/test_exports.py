"""The public names."""

import inspect
import pydoc
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import lemon_async
from lemon_async import batch, emulator, errors

ROOT = [
    "ApiError",
    "ContractError",
    "DownloadError",
    "EditRequest",
    "GenerateRequest",
    "Image",
    "ImageStream",
    "ImageTask",
    "Images",
    "LemonError",
    "LemonSession",
    "Outcome",
    "Outcomes",
    "PartialImage",
    "PollPolicy",
    "RetryPolicy",
    "SaveError",
    "Source",
    "SubmissionUnknown",
    "TaskError",
    "TaskTimeout",
    "Timeouts",
    "TransportError",
    "VariationRequest",
    "__version__",
]


def test_files_named_for_typical_changes_exist():
    """A model family touches at most four files, a request field at most six."""
    root = Path(lemon_async.__file__).parent
    lines = [line for line in lemon_async.__doc__.splitlines() if line.startswith("* ")]
    files = {line[2:].partition(":")[0]: re.findall(r"`([\w/]+\.py)`", line) for line in lines}
    assert all((root / name).is_file() for names in files.values() for name in names)
    assert len(files) == 9
    assert all(1 <= len(names) <= 4 for names in files.values())


def test_root_exports_these_names_and_little_else():
    """A new root name has to be added here."""
    assert sorted(lemon_async.__all__, key=str.lower) == sorted(ROOT, key=str.lower)
    # A union of types of others, and text.
    own = [getattr(lemon_async, name) for name in ROOT if name not in {"Source", "__version__"}]
    assert all(value.__module__.startswith("lemon_async.") for value in own)


def test_version_is_that_of_the_distribution():
    """It is written in one place, which the build reads."""
    assert lemon_async.__version__ == version("lemon-async")


def test_every_error_is_exported():
    """Whatever is raised can be caught by a name from `lemon_async.errors`."""
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert {cls.__name__ for cls in classes if not cls.__name__.startswith("_")} <= set(errors.__all__)


def test_emulator_exports_resolve():
    """Every public name of the emulator exists."""
    assert all(hasattr(emulator, name) for name in emulator.__all__)


def test_batch_exports_resolve():
    """They are imported when the first one is used."""
    assert all(hasattr(batch, name) for name in batch.__all__)
    assert set(dir(batch)) == set(batch.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        batch.nothing  # noqa: B018 - raises
    assert lemon_async.batch is batch


def test_star_import_help_and_dir_have_every_name():
    """The names are imported when the first one is used, which nobody needs to know."""
    names: dict[str, object] = {}
    exec("from lemon_async import *", names)
    assert set(ROOT) <= names.keys()
    assert set(dir(lemon_async)) == set(ROOT)
    assert dict(inspect.getmembers(lemon_async))["LemonSession"] is names["LemonSession"]
    assert "class LemonSession" in pydoc.plain(pydoc.render_doc(lemon_async))


def test_attribute_that_a_dependency_lacks_is_named():
    """It is no `ImportError` that `LemonSession` does not exist."""
    done = in_a_new_interpreter(
        "import aiohttp; del aiohttp.ClientTimeout, aiohttp.ClientSession, aiohttp.TCPConnector\n"
        "from lemon_async import LemonSession"
    )
    assert "ImportError: lemon_async cannot be imported: module aiohttp has no attribute" in done.stderr


def test_first_use_by_many_threads_is_one_import():
    """None of them sees a package that is half imported."""
    done = in_a_new_interpreter(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from threading import Barrier\n"
        "barrier = Barrier(8)\n"
        "def use(_):\n"
        "    barrier.wait()\n"
        "    from lemon_async import LemonSession, Outcome\n"
        "    return LemonSession, Outcome\n"
        "print(len(set(ThreadPoolExecutor(8).map(use, range(8)))))"
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def in_a_new_interpreter(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
