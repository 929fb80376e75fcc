"""Chromium or Chrome, if one is installed, and what a page does in it. `.ci/run` installs Chromium."""

import shutil
from contextlib import asynccontextmanager

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# No name leaves this machine; one of them leads to a server of the test, as that of an attacker would after rebinding.
REBOUND = "rebound.example"
OPTIONS = (
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-background-networking",
    "--disable-component-update",
)
PATIENCE_MS = 60_000
LOOKS = [("light", 1600), ("dark", 360)]  # a colour scheme and a width
# Runs before a page's own scripts. A script of an attack would call one of the first three.
WATCH = """
window.ran = [];
for (const name of ["alert", "confirm", "prompt"]) window[name] = (...words) => { window.ran.push([name, ...words]); };
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""


def find_chromium():
    """Return the program of an installed browser, or skip the test."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return program


@asynccontextmanager
async def running_chromium():
    """Start Chromium with a driver, and open its window; all end with the block, and with this process.

    One window is for all visits, because opening one takes longer than most tests; its blank page keeps it open.
    """
    playwright = pytest.importorskip(
        "playwright.async_api", reason="no driver of browsers here: pip install playwright"
    )
    program = find_chromium()
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=OPTIONS, timeout=PATIENCE_MS)
        try:
            window = await browser.new_context()
            window.set_default_timeout(PATIENCE_MS)
            await window.add_init_script(WATCH)
            await window.new_page()
            yield window
        finally:
            await browser.close()


class Visit:
    """A page, and what a user would not see of it.

    `problems` are errors and warnings of its console, exceptions of its scripts, what its policy stopped, scripts that
    an attack had run, and requests to other origins. A test that expects some takes them out.
    """

    def __init__(self, page):
        self.page = page
        self.problems = []
        self.requests = []
        self.is_checked = True
        self._others = set(page.context.pages) - {page}
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def _note_message(self, message):
        if message.type in {"error", "warning"}:
            self.problems.append(f"{message.type}: {message.text}")

    def forget(self, words):
        """Take out the problems that contain these words; there has to be one."""
        expected = [problem for problem in self.problems if words in problem]
        assert expected, self.problems
        self.problems = [problem for problem in self.problems if words not in problem]

    def expect_problems(self):
        """Let the visit have problems: the test looks at them itself."""
        self.is_checked = False

    def pages(self):
        """Return the page and those that it has opened."""
        return [page for page in self.page.context.pages if page not in self._others]

    async def find_problems(self):
        """Return what should not have happened."""
        found = list(self.problems)
        for page in self.pages():
            found += await page.evaluate("[...(window.violations ?? []), ...(window.ran ?? [])]")
        origin = self.page.url.split("/", 3)[:3]
        own = ("/".join(origin) + "/", "data:", "blob:")
        return found + [f"request: {url}" for url in self.requests if not url.startswith(own)]


@asynccontextmanager
async def visiting(window, url, *, scheme="light", width=1280, height=900):
    """Open a page; at the end of the block, it must have had no problems."""
    visit = Visit(await window.new_page())
    try:
        await show_as(visit.page, scheme, width, height)
        await visit.page.goto(url)
        yield visit
        if visit.is_checked and (problems := await visit.find_problems()):
            pytest.fail("\n".join(map(str, problems)))
    finally:
        for page in visit.pages():
            await page.close()


async def show_as(page, scheme, width, height=900):
    """Show a page light or dark, in a window of this size, and at once in its final colours."""
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await page.set_viewport_size({"width": width, "height": height})


async def find_axe_violations(page):
    """Return what axe-core has against a page, by rule: each element, and what is wrong with it."""
    axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="pip install axe-playwright-python")
    if not await page.evaluate("'axe' in window"):  # its script is half a megabyte
        await page.evaluate(axe.Axe().axe_script)
    found = await page.evaluate("axe.run({ resultTypes: ['violations'] }).then((found) => found.violations)")
    return {rule["id"]: [(node["html"], node["failureSummary"]) for node in rule["nodes"]] for rule in found}


async def check_looks(page):
    """Check that axe-core has nothing against what a page shows now, and that it fits the window, in each look."""
    for scheme, width in LOOKS:
        await show_as(page, scheme, width)
        assert await find_axe_violations(page) == {}, (scheme, width)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
