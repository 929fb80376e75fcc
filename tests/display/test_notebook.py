"""The notebook that README links runs from top to bottom, and shows what it says."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

SOURCE = Path(__file__).parent.parent / "notebooks" / "walkthrough.ipynb"
PLACES = ("desert", "forest", "garden", "harbour", "library", "market", "station")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the notebook has run, once for all tests, in a kernel of this environment."""
    place = tmp_path_factory.mktemp("notebook")
    own = tmp_path_factory.mktemp("jupyter")
    names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEMONDATA_")}
    command = [sys.executable, SOURCE.with_name("execute.py"), SOURCE, place]
    run = subprocess.run(
        command,
        env={**environment, **{name: str(own / name) for name in names}},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return place


@pytest.fixture(scope="module")
def notebook(folder):
    return json.loads((folder / SOURCE.name).read_text())


@pytest.fixture(scope="module")
def outputs(notebook):
    """What the cells have left, by their ids."""
    return {cell["id"]: cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"}


def shown(outputs, kind):
    """Return what is shown as one kind of content."""
    texts = [output["data"][kind] for output in outputs if kind in output.get("data", ())]
    return ["".join(text) if isinstance(text, list) else text for text in texts]


def printed(outputs):
    return "".join(text for output in outputs for text in output.get("text", ()))


def picture(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return image.convert("RGB")


def test_notebook_runs_without_an_error(notebook, outputs):
    """Every cell has run, in order, without errors or warnings."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kept = [output for cell in outputs.values() for output in cell]
    assert not [output for output in kept if output["output_type"] == "error" or output.get("name") == "stderr"]


def test_notebook_shows_pictures(outputs):
    """A picture is shown as itself, several with their prompt, and an edit differs from what it was made of."""
    (before,), (after,) = shown(outputs["first"], "image/png"), shown(outputs["edit"], "image/png")
    assert picture(before).size == picture(after).size == (1024, 1024)
    assert picture(before).getpixel((512, 288)) != picture(after).getpixel((512, 288))
    assert picture(before).getpixel((900, 900)) == picture(after).getpixel((900, 900))
    (icons,) = shown(outputs["several"], "text/html")
    assert icons.count("data:image/png;base64,") == 4
    assert "A lemon, as an icon" in icons


def test_notebook_shows_the_state_of_its_work(notebook, outputs):
    """It shows the session, a task, its progress, a bar for many jobs, an error and the billing."""
    assert "LemonSession" in shown(outputs["open"], "text/html")[0]
    assert "A sunset over the sea" in shown(outputs["task"], "text/html")[0]
    assert re.match(r"pending .*\ncompleted [^\n]*\n$", printed(outputs["task"]), re.DOTALL)
    assert "3 problems, nothing was sent" in printed(outputs["error"])
    assert "sold=11, settled=11" in shown(outputs["bill"], "text/plain")[0]
    for cell, words in {"first": "completed", "many": r"8/8\s.*1\sfailed"}.items():
        assert shown(outputs[cell], "application/vnd.jupyter.widget-view+json")
        assert [label for label in labels(notebook) if re.search(words, label)]


def labels(notebook):
    """Return the texts of all widgets: what is left of a bar."""
    widgets = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    return [str(widget["state"].get("value")) for widget in widgets.values()]


def test_notebook_shows_a_contact_sheet(folder, outputs):
    """The sheet that the notebook shows is the one on the disk, with every picture and the failure."""
    (frame,) = shown(outputs["sheet"], "text/html")
    page = (folder / "pictures" / "sheet.html").read_text()
    for words in (*PLACES, "an archive of too many pages"):
        assert words in frame
        assert words in page


def test_notebook_saves_pictures(folder):
    """Files are named by the template, and are complete."""
    names = {f"a-{place}-in-the-style-of-a-woodcut-1024x1024.png" for place in PLACES}
    files = {path.name: path for path in (folder / "pictures").glob("*.png")}
    assert files.keys() == {*names, "sunset.png", "mask.png"}
    for path in files.values():
        with Image.open(path) as image:
            image.load()


def test_notebook_shows_no_key(folder):
    """The notebook with its outputs does not contain the key."""
    assert not re.search(r"\bsk-emulator", (folder / SOURCE.name).read_text())


def test_notebook_is_checked_in_as_it_was_written():
    """It has no outputs, no traces of a machine, and ids that stay."""
    notebook = json.loads(SOURCE.read_text())
    cells = notebook["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert SOURCE.read_text() == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


async def test_notebook_as_a_page_shows_its_pictures(folder, outputs, visit, photograph):
    """Converted to HTML and opened in Chromium, all the colours of its pictures are on the screen."""
    page = folder / "page.html"
    html = (folder / SOURCE.name).with_suffix(".html").read_text()
    page.write_text(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))  # they would be fetched from elsewhere
    opened = await visit(page, width=1000, height=6500)
    seen = colours(await photograph(opened.page))
    (icons,) = shown(outputs["several"], "text/html")
    pictures = [picture(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", icons)]
    pictures += [picture(shown(outputs[cell], "image/png")[0]).resize((512, 512)) for cell in ("first", "edit")]
    for image in pictures:
        wanted = colours(image)
        assert (wanted - seen).total() < 0.1 * wanted.total()


def colours(image):
    """Count the pixels of each colour, of 16 shades of red, green and blue."""
    coarse = image.point([shade // 16 for shade in range(256)] * 3)
    return Counter({colour: number for number, colour in coarse.getcolors(16**3)})
