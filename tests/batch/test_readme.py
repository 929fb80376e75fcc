"""The batches' README: its example runs as it stands, and its tables name everything."""

import ast
import re
from pathlib import Path

import lemon_async.batch
from lemon_async.batch import State
from lemon_async.emulator import Emulator

README = Path(lemon_async.batch.__file__).with_name("README.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


async def test_example_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    async with Emulator(speed=6000) as service:
        monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", service.api_key)
        await eval(compile(EXAMPLE, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})
        assert service.ledger.sold == {"a red boat": 1, "a blue boat": 1}
    assert {path.name for path in (tmp_path / "boats").iterdir()} == {"A1.png", "A2.png"}


def test_readme_names_every_state():
    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == [str(state) for state in State]
