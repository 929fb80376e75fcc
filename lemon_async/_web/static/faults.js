// Faults: switches for the usual ones, the list of those that are on, and a form for any other.

import { byId, count, el, reconcile, setText } from "./dom.js";
import { change, get } from "./server.js";

const REST_MS = 700;
const POINTS = ["accept", "request_head", "request_body", "request_end", "response_head", "response_body"];

// The parameters of each action with their kind: a list of choices, a number, text, a list of words, JSON or yes/no.
const ACTIONS = {
  Status: { status: [Number, 502], body: [["json", "html", "empty", "truncated", "huge"]], code: [String], message: [String] },
  Latency: { ms: [Number, 3000], jitter_ms: [Number] },
  Reset: { at: [POINTS, "response_head"] },
  HalfClose: { at: [POINTS, "response_head"] },
  Cut: { at_byte: [Number, 100] },
  Drip: { bytes_per_s: [Number, 100] },
  Blackhole: {},
  Garbage: {},
  Redirect: { location: [String, "/"], status: [Number, 307] },
  Fail: { error: [String, "Generation failed"], cancelled: [Boolean] },
  Stuck: {},
  Vanish: { after_polls: [Number, 1] },
  LateVisible: { polls: [Number, 2] },
  Script: { statuses: [Array, "pending weird completed"] },
  Result: { data: [JSON, "[]"] },
  Answer: { fields: [JSON, '{"poll_url": null}'] },
  Expire: {},
  Body: { content: [String, "<html>"], content_type: [String, "image/png"] },
};

// Without defaults, as the server lists them. The reset comes after the response head: before it, browsers send even a
// POST again by themselves, on each connection that they have used before.
const PRESETS = [
  ["Most polls: 502 page", { route: "poll", actions: [{ type: "Status", status: 502, body: "html" }], probability: 0.75 }],
  ["Half of submits: 429", { route: "submit", actions: [{ type: "Status", status: 429 }], probability: 0.5 }],
  ["Submits: 3 s slower", { route: "submit", actions: [{ type: "Latency", ms: 3000 }] }],
  ["Submits: sold, then reset", { route: "submit", actions: [{ type: "Reset", at: "response_body" }] }],
  ["Submits: sold, but 502 page", { route: "submit", actions: [{ type: "Status", status: 502, body: "html" }], bill: true }],
  ["Tasks fail", { route: "submit", actions: [{ type: "Fail", error: "The provider failed" }] }],
  ["Half of links expire", { route: "cdn", actions: [{ type: "Expire" }], probability: 0.5 }],
];

/** Whether a fault of the server says all that a preset says; it may say more. */
function covers(said, wanted) {
  if (typeof wanted !== "object") return said === wanted;
  return Object.entries(wanted).every(([name, value]) => said !== null && typeof said === "object" && covers(said[name] ?? null, value));
}

const findPreset = (faults, { route, actions, ...match }) =>
  faults.find((fault) => fault.route === route && fault.actions.length === actions.length && covers(fault.actions, actions) && covers(fault.match, match));

const inWords = (object) =>
  Object.entries(object ?? {})
    .filter(([name, value]) => name !== "type" && value !== null && value !== "" && value !== false && JSON.stringify(value) !== "{}")
    .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");

export class Faults {
  #faults = [];
  #chips;
  #timer = 0;

  constructor() {
    this.#chips = PRESETS.map(([name, fault]) => {
      const chip = el("button", { type: "button", class: "chip", text: name, "aria-pressed": "false" });
      chip.addEventListener("click", () => this.#change(byId("presets-error"), ...this.#toggle(fault)));
      return [chip, fault];
    });
    byId("presets").append(...this.#chips.map(([chip]) => chip));
    byId("clear-faults").addEventListener("click", () => this.#change(byId("faults-note"), "DELETE", "/_page/faults"));
    this.#makeForm(byId("fault-form"));
  }

  #toggle(fault) {
    const known = findPreset(this.#faults, fault);
    return known ? ["DELETE", `/_page/faults/${known.id}`] : ["POST", "/_page/faults", fault];
  }

  async #change(place, ...request) {
    setText(place, "");
    try {
      await change(...request);
    } catch (error) {
      setText(place, error.message);
      return false;
    }
    await this.refresh();
    return true;
  }

  refreshSoon() {
    this.#timer ||= setTimeout(() => this.refresh(), REST_MS);
  }

  async refresh() {
    this.#timer = 0;
    try {
      this.#faults = (await get("/_page/faults")).items;
    } catch (error) {
      return setText(byId("faults-note"), error.message);
    }
    for (const [chip, fault] of this.#chips) chip.setAttribute("aria-pressed", String(Boolean(findPreset(this.#faults, fault))));
    setText(byId("faults-note"), this.#faults.length ? "" : "No fault is on: the service behaves.");
    const clear = byId("clear-faults");
    if (!this.#faults.length && clear === document.activeElement) byId("faults-heading").focus({ preventScroll: true });
    clear.hidden = !this.#faults.length;
    return reconcile(byId("fault-list"), this.#faults, (fault) => fault.id, (fault) => this.#makeItem(fault));
  }

  #makeItem({ id, route, actions, match }) {
    const name = `${route}: ${actions.map((action) => action.type).join(" and ")}`;
    const details = [...actions.map(inWords), inWords(match)].filter(Boolean).join(" · ");
    const hits = el("span", { class: "hits" });
    const remove = el("button", { type: "button", text: "Remove", "aria-label": `Remove ${name}` });
    remove.addEventListener("click", () => this.#change(byId("faults-note"), "DELETE", `/_page/faults/${id}`));
    const words = el("div", {}, el("strong", { text: name }), el("p", { class: "note", dir: "auto", text: details }));
    const item = el("li", { class: "card" }, words, hits, remove);
    item.update = (fault) => setText(hits, `${count(fault.hits)} ${fault.hits === 1 ? "hit" : "hits"}`);
    return item;
  }

  #makeForm(form) {
    const { type } = form.elements;
    const show = () => byId("fault-parameters").replaceChildren(byId("fault-parameters").firstElementChild, ...inputsOf(type.value));
    type.append(...Object.keys(ACTIONS).map((name) => el("option", { text: name })));
    type.addEventListener("change", show);
    show();
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        if (await this.#change(byId("fault-error"), "POST", "/_page/faults", faultOf(form))) byId("faults-heading").focus();
      } catch (error) {
        setText(byId("fault-error"), `The parameters are no JSON: ${error.message}`);
      }
    });
  }
}

function inputsOf(type) {
  const fields = Object.entries(ACTIONS[type]);
  if (!fields.length) return [el("p", { class: "note", text: "None." })];
  return fields.map(([name, [kind, value = ""]]) => {
    const input = Array.isArray(kind)
      ? el("select", { name: `action.${name}` }, ...kind.map((text) => el("option", { text })))
      : el("input", { name: `action.${name}`, type: kind === Boolean ? "checkbox" : kind === Number ? "number" : "text", step: "any" });
    if (value !== "") input.value = value;
    return el("label", { class: kind === Boolean ? "check" : "field" }, name, input);
  });
}

function faultOf(form) {
  const { route, type, times, probability, model, prompt } = form.elements;
  const action = { type: type.value };
  for (const [name, [kind]] of Object.entries(ACTIONS[type.value])) {
    const input = form.elements[`action.${name}`];
    if (kind === Boolean ? input.checked : input.value !== "") action[name] = valueOf(kind, input);
  }
  const fault = { route: route.value, actions: [action] };
  for (const input of [times, probability]) if (input.value) fault[input.name] = Number(input.value);
  for (const input of [model, prompt]) if (input.value) fault[input.name] = input.value;
  return fault;
}

function valueOf(kind, { value, checked }) {
  if (kind === Array) return value.split(/[\s,]+/).filter(Boolean);
  if (kind === JSON) return JSON.parse(value);
  return kind === Boolean ? checked : kind === Number ? Number(value) : value;
}
