"""A browser for tests of pages in files."""

import subprocess

import pytest
from PIL import Image

from chromium import find_chromium

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync")
SCHEMES = {"dark": 0, "light": 1}


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """Open a page from a file and return what Chromium prints: `browse(path, *options, scheme="light")`."""
    program = find_chromium()
    profile = tmp_path_factory.mktemp("chromium")

    def run(path, *options, scheme="light", size="1400,1000"):
        command = [program, *OPTIONS, f"--user-data-dir={profile}", f"--window-size={size}"]
        command += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--virtual-time-budget=3000"]
        done = subprocess.run([*command, *options, path.as_uri()], check=True, capture_output=True, timeout=120)
        return done.stdout.decode()

    return run


@pytest.fixture
def photograph(browse, tmp_path):
    """Return a screenshot of a page."""

    def shoot(path, **options):
        target = tmp_path / "screenshot.png"
        browse(path, f"--screenshot={target}", **options)
        with Image.open(target) as image:
            return image.convert("RGB")

    return shoot
