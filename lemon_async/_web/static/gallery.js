// The gallery: a card for each job, and its whole pictures in a dialog.

import { codeBlock, count, duration, el, openDialog, setText, time, usd } from "./dom.js";
import { List } from "./list.js";

const FAILED = new Set(["failed", "refused", "doubtful", "dead", "cancelled", "lost"]);
const PENDING = new Set(["pending", "processing", "new", "intent", "sold"]);
const NO_PROMPT = "No prompt";

export const toneOf = (state) => (FAILED.has(state) ? "bad" : PENDING.has(state) ? "open" : "good");

export const makeGallery = () =>
  new List("pictures", "/_page/pictures", { noun: "pictures", keyOf: (picture) => picture.id, create: makeCard });

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
    setText(state, stateText(item));
    state.dataset.tone = toneOf(item.state);
    setText(facts, factsOf(item).join("\u00a0· ")); // a line may end with the dot, and does not begin with it
    const revision = revisionOf(item);
    setText(revised, revision ? `Revised: ${revision}` : "");
    const look = JSON.stringify([item.state, item.error, item.images]);
    if (look !== shown) fillFrame(frame, item);
    shown = look;
    const bar = frame.querySelector("progress");
    if (bar) bar.value = item.progress ?? 0;
  };
  return card;
}

function stateText({ state, progress }) {
  return progress === null || progress === undefined || toneOf(state) !== "open" ? state : `${state}, ${Math.round(progress * 100)} %`;
}

function factsOf({ key, prompt, model, images, size, cost_usd: cost, seconds }) {
  const shape = size || (images[0]?.width && `${images[0].width}x${images[0].height}`);
  const number = images.length > 1 && `${images.length}\u00a0pictures`;
  const price = cost !== null && usd(cost);
  return [prompt && key, model, shape, number, price, seconds !== null && duration(seconds)].filter(Boolean);
}

const revisionOf = ({ prompt, images }) => images.map((image) => image.revised_prompt).find((text) => text && text !== prompt);

function fillFrame(frame, item) {
  frame.dataset.count = item.images.length > 9 ? "many" : item.images.length > 4 ? "nine" : item.images.length > 1 ? "four" : "one";
  if (item.images.length) return frame.replaceChildren(...item.images.map((image, index) => thumb(item, image, index)));
  if (toneOf(item.state) === "open") return frame.replaceChildren(waiting(item));
  frame.replaceChildren(el("p", { class: "reason", dir: "auto", text: item.error || "No picture" }));
}

function waiting({ state, progress }) {
  if (progress === null || progress === undefined) return el("p", { class: "reason", text: `${state}…` });
  return el("progress", { max: 1, value: progress, "aria-label": "Progress" });
}

function altOf({ prompt, key }, index, number) {
  const text = (prompt || key || NO_PROMPT).slice(0, 300);
  return number > 1 ? `${text} (picture ${index + 1} of ${number})` : text;
}

function thumb(item, { thumb: source, full, width, height }, index) {
  const alt = altOf(item, index, item.images.length);
  const image = el("img", { alt, width: width || 320, height: height || 320, loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "reason", text: "The picture cannot be shown" })), { once: true });
  image.src = source; // after `loading`, or it would be fetched right away
  const link = el("a", { href: full, class: "thumb" }, image);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the user wants a tab of its own
    event.preventDefault();
    openPicture(item, index);
  });
  return link;
}

function openPicture(item, index = 0) {
  const shown = item.images.length ? [item.images[index], ...item.images.filter((_, place) => place !== index)] : [];
  const figures = shown.map((image) => wholePicture(item, image));
  openDialog(item.prompt || item.key || NO_PROMPT, ...figures, factSheet(item), ...adviceBlocks(item.advice ?? []));
}

function wholePicture(item, image) {
  const picture = el("img", { alt: altOf(item, item.images.indexOf(image), item.images.length), width: image.width, height: image.height });
  picture.src = image.full;
  const link = el("a", { href: image.full, target: "_blank", rel: "noopener", text: "Open in a tab of its own" });
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
    ["Created", item.created === null ? null : time(item.created)],
    ["Task", item.task_id],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "sheet" }, ...rows.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { dir: "auto" }, value)]));
}

/** Lines of advice: what follows `lemon-async` in a line is a command to copy. */
export function adviceBlocks(lines) {
  return [lines].flat().map((line) => {
    const at = line.search(/\blemon-async /);
    if (at < 0) return el("p", { text: line.trim() });
    return codeBlock(line.slice(0, at).replace(/[:\s]+$/, "").trim() || "Command", line.slice(at));
  });
}
