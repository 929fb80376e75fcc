// The studio: one page of the emulator.

import { addOptions, byId, count, el, setText, usd } from "./dom.js";
import { Faults } from "./faults.js";
import { makeGallery } from "./gallery.js";
import { makePromptBox } from "./jobs.js";
import { announcer, follow } from "./server.js";
import { makeLedger, makeRequests } from "./tables.js";

const gallery = makeGallery();
const lists = [gallery, makeRequests(), makeLedger()];
const faults = new Faults();
const announce = announcer();
let version = null;

makePromptBox();
follow(show);
for (const list of lists) list.refresh();
faults.refresh();
addEventListener("hashchange", chooseView);
chooseView();

function chooseView() {
  const names = ["pictures", "requests", "ledger", "faults"];
  const name = location.hash.slice(1);
  const chosen = names.includes(name) ? name : (names.find((view) => !byId(view).hidden) ?? "pictures");
  for (const view of names) byId(view).hidden = view !== chosen;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  for (const list of lists) list.refresh();
}

const figure = (name, text) => setText(document.querySelector(`[data-figure="${name}"]`), text);

function show(summary) {
  const { counts, models } = summary;
  const completed = counts.completed ?? 0;
  const failed = counts.failed ?? 0;
  const open = Object.values(counts).reduce((sum, number) => sum + number, 0) - completed - failed;
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
  lists[0].offer("model", models);
  lists[2].offer("model", models);
  const known = new Set(Array.from(byId("models").options, (option) => option.value));
  byId("models").append(...models.filter((name) => !known.has(name)).map((value) => el("option", { value })));
  if (summary.version === version) return;
  version = summary.version;
  for (const list of lists) list.refresh(true);
  faults.refresh();
}
