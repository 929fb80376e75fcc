"""Pages of other origins neither read the studio nor change anything, and a rebound name does not reach it."""

import pytest

from chromium import REBOUND
from lemon_async.emulator import Reset

FAULT = '{"route": "submit", "actions": [{"type": "Reset"}]}'
ATTACK = """async ([origin, key, fault]) => {
  const outcomes = {};
  const attempt = async (name, path, options = {}) => {
    try {
      const response = await fetch(origin + path, { credentials: "include", ...options });
      outcomes[name] = response.type === "opaque" ? "opaque" : await response.text();
    } catch {
      outcomes[name] = "blocked";
    }
  };
  const job = JSON.stringify({ model: "flux-pro", prompt: "theirs" });
  const json = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  await attempt("page", "/");
  await attempt("pictures", "/_page/pictures");
  await attempt("requests", "/_page/requests");
  await attempt("page without cors", "/", { mode: "no-cors" });
  const post = { method: "POST", body: job, headers: json };
  await attempt("submit", "/v1/images/generations", post);
  await attempt("submit without cors", "/v1/images/generations", { ...post, mode: "no-cors" });
  await attempt("fault", "/_page/faults", { ...post, body: fault, headers: { ...json, "X-Page-Token": "x" } });
  await attempt("fault without cors", "/_page/faults", { method: "POST", body: fault, mode: "no-cors" });
  await attempt("no faults", "/_page/faults", { method: "DELETE" });
  const loaded = (element, source) => new Promise((done) => {
    element.onload = () => done("loaded");
    element.onerror = () => done("blocked");
    element.src = source;
    document.body.append(element);
  });
  outcomes.script = await loaded(document.createElement("script"), `${origin}/_page/static/studio.js`);
  outcomes.image = await loaded(new Image(), `${origin}/_page/thumbs/1/0`);
  outcomes.events = await new Promise((done) => {
    const source = new EventSource(`${origin}/_page/events`);
    source.onmessage = source.onopen = () => done("open");
    source.onerror = () => { source.close(); done("blocked"); };
  });
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
    for (const path of ["/_page/faults", "/v1/images/generations"]) {
      const form = document.createElement("form");
      const frame = document.createElement("iframe");
      frame.name = `frame ${type} ${path}`;
      Object.assign(form, { method: "post", action: origin + path, enctype: type, target: frame.name });
      const field = document.createElement("input");
      field.name = fault.slice(0, -1) + ', "x": "';
      field.value = '"}';
      form.append(field);
      document.body.append(frame, form);
      await new Promise((done) => { frame.onload = done; form.submit(); });
    }
  const frame = document.createElement("iframe");
  outcomes.frame = await loaded(frame, origin);
  try { outcomes.frame = frame.contentDocument.body.textContent; } catch { outcomes.frame = "blocked"; }
  return outcomes;
}"""
REBOUND_ATTACK = """async ([key, fault]) => {
  const job = JSON.stringify({ model: "flux-pro", prompt: "theirs" });
  const json = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  const submit = await fetch("/v1/images/generations", { method: "POST", body: job, headers: json });
  const change = await fetch("/_page/faults", { method: "POST", body: fault, headers: json });
  const read = await Promise.all(["/", "/_page/pictures", "/_page/events"].map((path) => fetch(path)));
  const replies = [submit, change, ...read];
  return Promise.all(replies.map(async (reply) => [reply.status, await reply.text()]));
}"""


@pytest.fixture(autouse=True)
def fault(studio):
    """A fault that others must not remove."""
    return studio.fault("poll", Reset("response_head"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_foreign_page_neither_reads_nor_changes(visit, serve, http_ok, studio, host):
    """Whether it is of the same site or not: it submits nothing, switches no fault, and reads no reply."""
    server = await serve(http_ok(b"<!doctype html><title>Foreign</title>", "text/html"))
    foreign = await visit(f"http://{host}:{server.port}/")
    outcomes = await foreign.page.evaluate(ATTACK, [studio.base_url, studio.api_key, FAULT])
    foreign.expect_problems()
    assert set(outcomes.values()) <= {"blocked", "opaque"}, outcomes
    assert studio.ledger.sold.total() == 0
    assert len(studio.faults) == 1


async def test_foreign_page_that_opens_the_studio_has_no_hold_on_it(visit, serve, http_ok, studio, expect):
    """A window opened by a foreign page shows the studio, which that page can neither read nor reach."""
    server = await serve(http_ok(b"<!doctype html><title>Foreign</title>", "text/html"))
    foreign = await visit(server.origin)
    async with foreign.page.context.expect_page() as opening:
        await foreign.page.evaluate("(url) => { window.opened = window.open(url); }", studio.base_url)
    opened = await opening.value
    await expect(opened.get_by_role("heading", name="Studio", level=1)).to_be_visible()
    assert await opened.evaluate("window.opener") is None
    await foreign.page.wait_for_function("window.opened.closed")
    foreign.expect_problems()


async def test_rebinding_does_not_reach_the_studio(visit, studio):
    """A page whose name leads here by DNS is refused everything: the page, its data, and the API."""
    port = studio.base_url.rpartition(":")[2]
    foreign = await visit(f"http://{REBOUND}:{port}/")
    replies = await foreign.page.evaluate(REBOUND_ATTACK, [studio.api_key, FAULT])
    foreign.expect_problems()
    assert {status for status, _ in replies} == {421}
    assert not any(studio.api_key in text for _, text in replies)
    assert studio.ledger.sold.total() == 0
    assert len(studio.faults) == 1
