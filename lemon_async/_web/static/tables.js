// The request log with its replays, and the ledger.

import { byId, cell, codeBlock, count, el, openDialog, setText, time, usd } from "./dom.js";
import { start } from "./jobs.js";
import { List } from "./list.js";
import { get } from "./server.js";

const REPLAY = "Send again sends the same request through the public API: a job of its own, with its own price.";
const REPOLL = "Send again asks for the task again through the public API. It costs nothing.";
const NO_REPLAY = "The page cannot send this request again: its body or its files were not kept.";
const NO_REPLAY_HERE = "Only paid requests and polls can be sent again.";

export const makeRequests = () =>
  new List("requests", "/_page/requests", { noun: "request", nouns: "requests", keyOf: (request) => request.number, create: makeRequest });

function makeRequest(request) {
  const { number, at, route, method, path, model, prompt } = request;
  const status = cell("");
  const open = el("button", { type: "button", text: "Details", "aria-label": `Details of request ${number}` });
  open.addEventListener("click", () => openRequest(number));
  const subject = cell([model, prompt].filter(Boolean).join(": "), { class: "long" });
  const row = el("tr", {}, cell(number, { class: "number" }), el("td", {}, time(at)), cell(route), cell(`${method} ${path}`, { class: "path" }));
  row.append(status, subject, el("td", {}, open));
  row.update = (item) => {
    setText(status, item.status ?? "no response");
    status.dataset.tone = item.status === null || item.status >= 400 ? "bad" : "good";
  };
  return row;
}

async function openRequest(number) {
  try {
    const { route, method, path, prompt, body, curl, python, is_replayable, is_form } = await get(`/_page/requests/${number}`);
    const isReplayable = is_replayable && !is_form;
    const isPaid = route === "submit" || route === "edit";
    const again = el("button", { type: "button", class: "main", text: "Send again" });
    again.addEventListener("click", () => {
      byId("dialog").close();
      start(prompt ?? `${method} ${path}`, { method, path, body: method === "GET" ? undefined : textOf(body) });
    });
    again.hidden = !isReplayable;
    const note = el("p", { class: "note", text: isReplayable ? (isPaid ? REPLAY : REPOLL) : isPaid ? NO_REPLAY : NO_REPLAY_HERE });
    const blocks = [["curl", curl], ["Python", python], ["Body", textOf(body)]].filter(([, text]) => text);
    openDialog(`Request ${number}: ${method} ${path}`, note, again, ...blocks.map(([name, text]) => codeBlock(name, text)));
  } catch (error) {
    openDialog(`Request ${number}`, el("p", { class: "error", text: error.message }));
  }
}

const textOf = (body) => (body === null || body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body));

export const makeLedger = () =>
  new List("ledger", "/_page/ledger", { noun: "entry", nouns: "entries", keyOf: (entry) => entry.number, create: makeEntry, onPage: showSums });

function makeEntry({ number, kind, job, task_id: task, model, amount_usd: amount, at }) {
  const row = el("tr", {}, cell(number, { class: "number" }), el("td", {}, time(at)), cell(kind));
  row.append(cell(usd(amount), { class: "number" }), cell(model), cell(job, { class: "long" }), cell(task, { class: "path" }));
  return row;
}

function showSums({ sums }) {
  const parts = Object.entries(sums ?? {}).map(([kind, sum]) => `${kind}: ${count(sum.count)}, ${usd(sum.amount_usd)}`);
  setText(byId("sums"), parts.join(" · "));
}
