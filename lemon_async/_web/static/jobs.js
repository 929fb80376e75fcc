// The prompt box, and what becomes of the requests that this page sends.

import { byId, el, setText } from "./dom.js";
import { run } from "./client.js";

const MAX_JOBS = 4;
const MAX_STEPS = 100;

/** Send a request through the public API and show each step. */
export function start(title, request) {
  const latest = el("p", { class: "latest" });
  const steps = el("ol", { tabIndex: 0, "aria-label": "Steps" });
  const details = el("details", {}, el("summary", { text: "Steps" }), steps);
  const again = el("button", { type: "button", text: "Send again", hidden: true, "aria-label": `Send again: ${title.slice(0, 80)}` });
  again.addEventListener("click", () => start(title, request));
  const job = el("li", { class: "job" }, el("p", { class: "job-title", dir: "auto", text: title }), latest, el("div", { class: "foot" }, details, again));
  byId("jobs").prepend(job);
  while (byId("jobs").children.length > MAX_JOBS) byId("jobs").lastElementChild.remove();
  run(request, (kind, text) => {
    steps.append(el("li", { text }));
    if (steps.children.length > MAX_STEPS) steps.firstElementChild.remove();
    setText(latest, text);
    job.dataset.kind = kind;
    again.hidden = kind !== "stop";
    if (kind !== "step") setText(byId("job-news"), text.replace(/^Poll \d+: /, "")); // repeated failures are said once
  });
}

function bodyOf(fields) {
  const body = { prompt: fields.prompt.value, model: fields.model.value };
  if (fields.size.value) body.size = fields.size.value;
  if (fields.n.value) body.n = Number(fields.n.value);
  if (!fields.more.value.trim()) return body;
  const more = JSON.parse(fields.more.value);
  if (more === null || typeof more !== "object" || Array.isArray(more)) throw new SyntaxError("not an object");
  return { ...body, ...more };
}

export function makePromptBox() {
  const form = byId("make");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = form.elements;
    setText(byId("make-error"), "");
    fields.more.removeAttribute("aria-invalid");
    try {
      const body = bodyOf(fields);
      start(String(body.prompt), { path: "/v1/images/generations", body: JSON.stringify(body) });
    } catch (error) {
      setText(byId("make-error"), `More fields: write one JSON object, e.g. {"seed": 7} (${error.message})`);
      fields.more.setAttribute("aria-invalid", "true");
      fields.more.closest("details").open = true;
      fields.more.focus();
    }
  });
  form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
