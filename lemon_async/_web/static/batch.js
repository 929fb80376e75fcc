// The page of a batch, read-only.

import { byId, cell, count, duration, el, figure, reconcile, setText, time, usd } from "./dom.js";
import { adviceBlocks, makeGallery } from "./gallery.js";
import { announcer, follow } from "./server.js";

const STATES = ["done", "sold", "intent", "new", "doubtful", "refused", "failed", "dead"];

const gallery = makeGallery("row", "rows");
const announce = announcer();
let version = null;

gallery.refresh();
follow(show);

function show(summary) {
  const { counts, spending } = summary;
  const total = STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  figure("journal", summary.journal);
  figure("owner", ownerOf(summary));
  setText(byId("problem"), summary.problem);
  figure("done", `${count(counts.done ?? 0)} of ${count(total)}`);
  figure("rate", count(summary.rate_per_minute));
  figure("eta", duration(summary.eta_s));
  showMoney(spending);
  showStates(counts, total);
  showFailures(summary.failures);
  showDoubtful(summary.doubtful);
  showAdvice(summary.advice);
  announce(`${count(counts.done ?? 0)} of ${count(total)} rows done.`);
  document.title = `${total ? Math.floor((100 * (counts.done ?? 0)) / total) : 0} % - ${summary.journal.split(/[\\/]/).at(-1)}`;
  gallery.refresh(summary.version !== version);
  version = summary.version;
}

function ownerOf({ is_running: isRunning, owner, problem }) {
  if (problem) return "The journal cannot be read now; this is what was last seen";
  if (!isRunning) return "Not running";
  if (!owner) return "Running";
  return `Running: process ${owner.pid} on ${owner.host}, since ${time(owner.started).textContent}`;
}

function showMoney({ spent, reserved, doubtful, refunded, unpriced, budget_usd: cap }) {
  const committed = spent + reserved + doubtful;
  figure("spent", usd(spent));
  figure("reserved", usd(reserved));
  figure("doubtful", usd(doubtful));
  figure("cap", cap === null || cap === undefined ? "none" : usd(cap));
  setText(byId("committed"), cap ? `${usd(committed)} of ${usd(cap)} committed` : `${usd(committed)} committed`);
  byId("cap").hidden = !cap;
  if (cap) byId("cap").value = Math.min(1, committed / cap);
  const unknown = unpriced ? ` Rows without a known price: ${count(unpriced)}.` : "";
  setText(byId("refunds"), `Refunded: ${usd(refunded)}.${unknown}`);
}

function showStates(counts, total) {
  const items = STATES.map((state) => ({ state, number: counts[state] ?? 0, share: total ? (counts[state] ?? 0) / total : 0 }));
  const shown = items.filter((item) => item.number);
  reconcile(byId("bar"), shown, (item) => item.state, ({ state }) => {
    const part = el("span", { "data-state": state });
    part.update = ({ share }) => (part.style.flexGrow = share);
    return part;
  });
  reconcile(byId("states"), items, (item) => item.state, ({ state }) => {
    const [rows, share] = [cell("", { class: "number" }), cell("", { class: "number" })];
    const row = el("tr", {}, el("th", { scope: "row", "data-state": state, text: state }), rows, share);
    row.update = (item) => {
      setText(rows, count(item.number));
      setText(share, `${(100 * item.share).toFixed(1)} %`);
    };
    return row;
  });
}

function showFailures(failures) {
  byId("failures").hidden = !failures.length;
  reconcile(byId("failure-rows"), failures, (failure) => failure.reason, ({ reason }) => {
    const [rows, keys] = [cell("", { class: "number" }), cell("", { class: "long" })];
    const row = el("tr", {}, rows, cell(reason, { class: "long" }), keys);
    row.update = (failure) => {
      setText(rows, count(failure.count));
      setText(keys, [...failure.keys, ...(failure.count > failure.keys.length ? ["…"] : [])].join(", "));
    };
    return row;
  });
}

function showDoubtful(rows) {
  byId("doubtful").hidden = !rows.length;
  reconcile(byId("doubtful-rows"), rows, (row) => row.key, ({ key, prompt, price_usd: price, time: at, error }) => {
    const row = el("tr", {}, el("th", { scope: "row", class: "long", dir: "auto", text: key }), cell(prompt, { class: "long" }));
    row.append(cell(usd(price), { class: "number" }), el("td", {}, time(at && Date.parse(at) / 1000)), cell(error, { class: "long" }));
    return row;
  });
}

function showAdvice(lines) {
  byId("next").hidden = !lines.length;
  reconcile(byId("advice"), lines, (line) => line, (line) => el("li", {}, ...adviceBlocks([line])));
}
