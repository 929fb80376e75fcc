"""What the tests of pages rely on: the browser runs scripts, and a visit notices what must not happen."""

import asyncio

from chromium import REBOUND, find_axe_violations

POOR = """<!doctype html><title>Poor</title>
<p style="color: #aaa; background: #fff">pale</p><img src="http://elsewhere.example/x.png">
<img src=x onerror="alert('attack')"><script>console.error("broken"); nowhere()</script>
"""


async def test_problems_of_a_page_are_noticed(visit, serve, http_ok):
    """Scripts of attacks, errors of the console, requests to other origins and poor contrast: none goes unseen."""
    server = await serve(http_ok(POOR.encode(), "text/html"))
    poor = await visit(server.origin)
    await poor.page.wait_for_function("window.ran.length > 0")
    found = "\n".join(map(str, await poor.find_problems()))
    assert "broken" in found
    assert "nowhere is not defined" in found
    assert "http://elsewhere.example/x.png" in found
    assert "attack" in found
    assert "color-contrast" in await find_axe_violations(poor.page)
    poor.expect_problems()


async def test_policy_that_stops_something_is_noticed(visit, serve, http_ok):
    """A page that relies on its policy against an attack has a problem nevertheless."""
    policy = {"Content-Security-Policy": "default-src 'none'"}
    server = await serve(http_ok(b"<!doctype html><title>x</title><script>alert(1)</script>", "text/html", **policy))
    page = await visit(server.origin)
    async with asyncio.timeout(60):
        while "script-src-elem: inline" not in await page.find_problems():
            await asyncio.sleep(0.01)
    page.expect_problems()


async def test_rebound_name_leads_to_this_machine(visit, serve, http_ok):
    """The name of an attacker resolves to the address of a server of the test, at its port."""
    server = await serve(http_ok(b"<!doctype html><title>reached</title>", "text/html"))
    reached = await visit(f"http://{REBOUND}:{server.port}/")
    assert await reached.page.title() == "reached"
