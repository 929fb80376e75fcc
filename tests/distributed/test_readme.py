"""The README of batches on Ray: its examples use what there is, and it names every column that is added."""

import ast
import inspect
import re
from pathlib import Path

import attrs

import lemon_async.distributed
from lemon_async.distributed import LemonGenerator, run_batch
from lemon_async.distributed.given_rows import RowResult

README = Path(lemon_async.distributed.__file__).with_name("README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_examples_use_options_that_exist():
    """Others would be taken for fields of a request."""
    summary, dataset = (ast.parse(example) for example in EXAMPLES)
    call = next(node for node in ast.walk(summary) if isinstance(node, ast.Call))
    options = {word.arg for word in call.keywords} - {"model"}
    assert options <= inspect.signature(run_batch).parameters.keys()
    written = next(node for node in ast.walk(dataset) if isinstance(node, ast.Dict))
    options = {key.value for key in written.keys} - {"model"}
    assert options <= inspect.signature(LemonGenerator).parameters.keys()


def test_readme_names_every_column_and_links_to_files():
    """Columns are those of a row's result."""
    assert all(f"`{name}`" in README for name in attrs.fields_dict(RowResult))
    folder = Path(lemon_async.distributed.__file__).parent
    links = re.findall(r"\]\(([^)#]+)", README)
    assert len(links) >= 3
    assert all((folder / link).is_file() for link in links)
