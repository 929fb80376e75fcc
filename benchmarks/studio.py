"""Measure the studio with 5,000 pictures in Chromium: when it is painted, and for how long its main thread is busy.

Each round opens the page anew: first contentful paint, and when the first pictures are visible. Then it scrolls through
pages of pictures and back, and scrolls on while new pictures arrive. The longest task is that of
`PerformanceObserver`, which reports those above 50 ms. They are measured in real time, so what else runs on the machine
counts: figures are medians of the rounds, and the worst is reported too. Needs Chromium and Playwright.
"""

import asyncio
import shutil
import statistics
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from benchmarks.progress import progress
from lemon_async import LemonSession
from lemon_async.emulator import Emulator

if TYPE_CHECKING:
    from playwright.async_api import Page, ViewportSize

ROUNDS, QUICK_ROUNDS = 5, 1
PICTURES, QUICK_PICTURES = 5_000, 500
PAGES = 3
ARRIVING = 40
NOTCHES = 15
VIEWPORT: "ViewportSize" = {"width": 1600, "height": 1000}
PROMPTS = (
    "A white cat on a windowsill",
    "窓辺の白い猫",
    "قطة بيضاء على حافة النافذة",
    "🐈 and 🐕, friends 🌈",
    "long " * 200,
)
BARS = {"first_paint_ms": 1000, "longest_task_ms": 100}
WATCH = """
window.tasks = [];
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.tasks.push(task.duration);
}).observe({ type: "longtask", buffered: true });
"""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
ARE_VISIBLE = """() => {
  const inside = [...document.querySelectorAll("main img")].filter(
    (image) => image.getBoundingClientRect().top < innerHeight && image.checkVisibility());
  return inside.length > 3 && inside.every((image) => image.complete && image.naturalWidth) ? performance.now() : false;
}"""


def _program() -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise RuntimeError("no Chromium here: apt-get install chromium")
    return program


async def _longest_task(page: "Page", action: Callable[[], Coroutine[Any, Any, object]]) -> float:
    """Return the milliseconds of the longest task during an action; 0 if none is longer than 50."""
    await page.evaluate("window.tasks.length = 0")
    await action()
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return float(await page.evaluate("Math.max(0, ...window.tasks)"))


async def _scroll(page: "Page") -> None:
    """Scroll down as with a wheel, frame by frame."""
    await page.mouse.move(800, 600)
    for _ in range(NOTCHES):
        await page.mouse.wheel(0, 400)
        await page.evaluate("new Promise(requestAnimationFrame)")


async def _browse(page: "Page") -> None:
    """Scroll through some pages of pictures, and return to the first."""
    for direction in ("Older", "Newer"):
        for _ in range(PAGES):
            await _scroll(page)
            await page.get_by_role("button", name=direction).click()


async def _round(page: "Page", emulator: Emulator, session: LemonSession) -> dict[str, float]:
    await page.goto(emulator.base_url)
    visible = await (await page.wait_for_function(ARE_VISIBLE)).json_value()
    figures = {
        "first_paint_ms": await page.evaluate(FIRST_PAINT),
        "pictures_visible_ms": visible,
        "opening_task_ms": await page.evaluate("Math.max(0, ...window.tasks)"),
        "dom_nodes": await page.evaluate("document.querySelectorAll('*').length"),
        "browsing_task_ms": await _longest_task(page, lambda: _browse(page)),
    }

    async def arrive() -> None:
        await asyncio.gather(_fill(session, ARRIVING), _scroll(page))

    figures["arriving_task_ms"] = await _longest_task(page, arrive)
    figures["longest_task_ms"] = max(figures["browsing_task_ms"], figures["arriving_task_ms"])
    return figures


async def _fill(session: LemonSession, number: int) -> None:
    prompts = (f"{PROMPTS[index % len(PROMPTS)]} {index}" for index in range(number))
    async with session.map(prompts, model="midjourney", in_flight=100) as outcomes:
        async for _ in outcomes:
            pass


async def _measure(pictures: int, rounds: int) -> list[dict[str, float]]:
    from playwright.async_api import async_playwright  # noqa: PLC0415 - only this benchmark needs it

    async with (
        Emulator(speed=6000, studio=True) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, requests_per_minute=1_000_000) as session,
        async_playwright() as driver,
    ):
        await _fill(session, pictures)
        browser = await driver.chromium.launch(executable_path=_program())
        found = []
        for _ in progress("studio", range(rounds)):
            context = await browser.new_context(viewport=VIEWPORT)
            page = await context.new_page()
            await page.add_init_script(WATCH)
            found.append(await _round(page, emulator, session))
            await context.close()
        await browser.close()
    return found


def run(quick: bool = False) -> dict[str, Any]:
    """Return medians of the rounds in milliseconds, the worst rounds, and whether the bars are met."""
    pictures = QUICK_PICTURES if quick else PICTURES
    rounds = asyncio.run(_measure(pictures, QUICK_ROUNDS if quick else ROUNDS))
    medians = {name: round(statistics.median(each[name] for each in rounds), 1) for name in rounds[0]}
    return {
        "rounds": len(rounds),
        "pictures": pictures,
        **medians,
        "worst": {name: round(max(each[name] for each in rounds), 1) for name in rounds[0]},
        "bars": {
            name: {"value": medians[name], "most": most, "is_met": medians[name] <= most} for name, most in BARS.items()
        },
    }
