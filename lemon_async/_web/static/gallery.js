// The gallery: a card for each job, and its whole pictures in a dialog.

import { codeBlock, count, duration, el, openDialog, setText, time, usd } from "./dom.js";
import { List } from "./list.js";

const DONE = new Set(["completed", "done"]);
const FAILED = new Set(["failed", "lost", "refused", "doubtful", "dead"]);
const NO_PROMPT = "No prompt";

/** The colour of a state; an unknown one counts as under way. */
export const toneOf = (state) => (DONE.has(state) ? "good" : FAILED.has(state) ? "bad" : "open");

export const makeGallery = (noun, nouns) =>
  new List("pictures", "/_page/pictures", { noun, nouns, keyOf: (picture) => picture.id, create: makeCard });

function makeCard(first) {
  let picture = first;
  let shown = "";
  const frame = el("div", { class: "frame" });
  const state = el("span", { class: "state" });
  const title = el("h3", { dir: "auto" });
  const facts = el("p", { class: "facts" });
  const revised = el("p", { class: "revised", dir: "auto" });
  const details = el("button", { type: "button", text: "Details" });
  details.addEventListener("click", () => openPicture(picture));
  const foot = el("div", { class: "foot" }, state, details);
  const card = el("li", { class: "card" }, frame, title, revised, facts, foot);
  card.update = (item) => {
    picture = item;
    const name = item.prompt || item.key || NO_PROMPT;
    setText(title, name);
    details.setAttribute("aria-label", `Details of ${name.slice(0, 80)}`);
    setText(state, item.state); // how far it is, the bar says
    state.dataset.tone = toneOf(item.state);
    setText(facts, factsOf(item).join("\u00a0· ")); // a line may end with the dot, and does not begin with it
    const revision = revisionOf(item);
    setText(revised, revision ? `Revised: ${revision}` : "");
    const look = JSON.stringify([item.state, item.error, item.images, hasProgress(item)]);
    if (look !== shown) fillFrame(frame, item, (index) => openPicture(picture, index));
    shown = look;
    const bar = frame.querySelector("progress");
    if (bar) bar.value = item.progress ?? 0;
  };
  return card;
}

const hasProgress = ({ state, progress }) => toneOf(state) === "open" && progress !== null && progress !== undefined;
const stateText = (item) => (hasProgress(item) ? `${item.state}, ${Math.round(item.progress * 100)}\u00a0%` : item.state);

function factsOf({ key, prompt, model, images, size, cost_usd: cost, seconds }) {
  const shape = size || (images[0]?.width && `${images[0].width}x${images[0].height}`);
  const number = images.length > 1 && `${images.length}\u00a0pictures`;
  const price = cost !== null && usd(cost);
  return [prompt && key, model, shape, number, price, seconds !== null && duration(seconds)].filter(Boolean);
}

const revisionOf = ({ prompt, images }) => images.map((image) => image.revised_prompt).find((text) => text && text !== prompt);

function fillFrame(frame, item, open) {
  const { images, state, error } = item;
  frame.dataset.count = images.length > 9 ? "many" : images.length > 4 ? "nine" : images.length > 1 ? "four" : "one";
  if (images.length) frame.replaceChildren(...images.map((_, index) => thumb(item, index, () => open(index))));
  else if (hasProgress(item)) frame.replaceChildren(el("progress", { max: 1, "aria-label": "Progress" }));
  else frame.replaceChildren(el("p", { class: "reason", dir: "auto", text: error || (toneOf(state) === "open" ? `${state}…` : "No picture") }));
}

function altOf({ prompt, key, images }, index) {
  const text = (prompt || key || NO_PROMPT).slice(0, 300);
  return images.length > 1 ? `${text} (picture ${index + 1} of ${images.length})` : text;
}

function thumb(item, index, open) {
  const { thumb: source, full, width, height } = item.images[index];
  const alt = altOf(item, index);
  const image = el("img", { alt, width: width || 320, height: height || 320, loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "reason", text: "The picture cannot be shown" })), { once: true });
  image.src = source; // after `loading`, or it would be fetched right away
  const link = el("a", { href: full, class: "thumb" }, image);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the user wants a tab of its own
    event.preventDefault();
    open();
  });
  return link;
}

function openPicture(item, index = 0) {
  const places = item.images.map((_, place) => place).sort((one, other) => (other === index) - (one === index));
  const figures = places.map((place) => wholePicture(item, place));
  openDialog(item.prompt || item.key || NO_PROMPT, ...figures, factSheet(item), ...adviceBlocks(item.advice));
}

function wholePicture(item, index) {
  const { full, width, height } = item.images[index];
  const picture = el("img", { alt: altOf(item, index), width, height, src: full });
  const link = el("a", { href: full, target: "_blank", rel: "noopener", text: "Open in a tab of its own" });
  return el("figure", { class: "whole" }, picture, el("figcaption", {}, link));
}

function factSheet(item) {
  const { images } = item;
  const revisions = [...new Set(images.map((image) => image.revised_prompt).filter(Boolean))];
  const rows = [
    ["State", stateText(item)],
    ["Error", item.error],
    ["Key", item.key],
    ["Prompt", item.prompt],
    ...revisions.map((text) => ["Revised prompt", text]),
    ["Model", item.model],
    ["Size", item.size],
    ["Pictures", images.length > 1 ? count(images.length) : null],
    ["Cost", item.cost_usd === null ? null : usd(item.cost_usd)],
    ["Time taken", item.seconds === null ? null : duration(item.seconds)],
    ["Time", item.created === null ? null : time(item.created)],
    ["Task", item.task_id],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "sheet" }, ...rows.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { dir: "auto" }, value)]));
}

/** Lines of advice: what follows `lemon-async` in a line is a command to copy. */
export function adviceBlocks(lines) {
  return lines.map((line) => {
    const at = line.search(/\blemon-async /);
    if (at < 0) return el("p", { text: line.trim() });
    const title = line.slice(0, at).replace(/[:\s]+$/, "").trim() || "command";
    return codeBlock(title[0].toUpperCase() + title.slice(1), line.slice(at));
  });
}
