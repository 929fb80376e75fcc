"""The batches' README: its examples run as they stand, and its tables name everything."""

import ast
import re
from pathlib import Path

import lemon_async.batch
from lemon_async.batch import State
from lemon_async.emulator import Emulator

README = Path(lemon_async.batch.__file__).with_name("README.md").read_text(encoding="utf-8")
EXAMPLE, WATCHING, SHARED = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


async def test_example_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    async with Emulator(speed=6000) as service:
        monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", service.api_key)
        await eval(compile(EXAMPLE, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})
        assert service.ledger.sold == {"a red boat": 1, "a blue boat": 1}
    assert {path.name for path in (tmp_path / "boats").iterdir()} == {"A1.png", "A2.png"}
    seen = {}
    await eval(compile(WATCHING, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), seen)
    assert seen["summary"].budget_usd == 1
    assert [row.key for row in seen["rows"]] == ["A2", "A1"]


async def test_shared_example_runs(monkeypatch, tmp_path, postgres):
    """Both workers end; the folder is another one here."""
    rows = [{"sku": f"A{number}", "prompt": f"boat {number}"} for number in range(5)]
    names = {}
    exec(compile(SHARED.replace("/mnt/shop", str(tmp_path)), "README", "exec"), names)
    async with Emulator(speed=6000) as service:
        monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", service.api_key)
        await names["main"](postgres.new_journal(), rows)
        assert service.ledger.sold == {row["prompt"]: 1 for row in rows}
    assert {path.stem for path in tmp_path.glob("*.*g")} == {row["sku"] for row in rows}


def test_readme_names_every_state():
    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == [str(state) for state in State]
