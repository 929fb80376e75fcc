// The studio: one page of the emulator.

import { addOptions, byId, count, figure, usd } from "./dom.js";
import { Faults } from "./faults.js";
import { makeGallery, toneOf } from "./gallery.js";
import { makePromptBox } from "./jobs.js";
import { announcer, follow } from "./server.js";
import { makeLedger, makeRequests } from "./tables.js";

const [gallery, requests, ledger] = [makeGallery("picture", "pictures"), makeRequests(), makeLedger()];
const lists = [gallery, requests, ledger];
const faults = new Faults();
const announce = announcer();
let version = null;

makePromptBox();
follow(show);
for (const list of lists) list.refresh();
faults.refresh();
addEventListener("hashchange", () => {
  if (chooseView()) byId(`${location.hash.slice(1)}-heading`).focus();
});
chooseView();

/** Show the view that the address names; return whether it names one. */
function chooseView() {
  const views = ["pictures", "requests", "ledger", "faults"];
  const isNamed = views.includes(location.hash.slice(1));
  const chosen = isNamed ? location.hash.slice(1) : views.find((view) => !byId(view).hidden);
  for (const view of views) byId(view).hidden = view !== chosen;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  for (const list of lists) list.refresh();
  return isNamed;
}

function show(summary) {
  const { counts, models } = summary;
  const completed = counts.completed ?? 0;
  const failed = counts.failed ?? 0;
  const open = Object.keys(counts).reduce((sum, state) => sum + (toneOf(state) === "open" ? counts[state] : 0), 0);
  figure("completed", count(completed));
  figure("open", count(open));
  figure("failed", count(failed));
  figure("sold", count(summary.sold));
  figure("held", usd(summary.held_usd));
  figure("balance", summary.balance_usd === null ? "unlimited" : usd(summary.balance_usd));
  figure("speed", `${summary.speed}×`);
  figure("requests", count(summary.requests));
  figure("faults", count(summary.faults));
  announce(`${count(completed)} completed, ${count(open)} in progress, ${count(failed)} failed.`);
  gallery.offer("state", Object.keys(counts));
  gallery.offer("model", models);
  ledger.offer("model", models);
  addOptions(byId("models"), models);
  for (const list of lists) list.refresh(summary.version !== version);
  if (summary.version !== version) faults.refreshSoon();
  version = summary.version;
}
