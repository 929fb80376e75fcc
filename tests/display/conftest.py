"""A browser: Debian's Chromium, installed in a root container of a CI, else used if it is there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync")
SCHEMES = {"dark": 0, "light": 1}


def find():
    return next(filter(None, map(shutil.which, NAMES)), None)


def install():
    """Have Debian install it, where nobody minds."""
    is_ours = os.environ.get("CI") == "true" and hasattr(os, "geteuid") and os.geteuid() == 0
    if not (is_ours and shutil.which("apt-get") and Path("/etc/debian_version").exists()):
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (("update", "-q"), ("install", "-qy", "--no-install-recommends", "chromium")):
        subprocess.run(["apt-get", *step], env=environ, check=False, capture_output=True, timeout=600)


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """Open a page from a file and return what Chromium prints: `browse(path, *options, scheme="light")`."""
    if find() is None:
        install()
    program = find()
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
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
