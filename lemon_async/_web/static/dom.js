// Elements and formats. Text of others goes in as text only.

export const byId = (id) => document.getElementById(id);

/** Make an element: `class` and `text` are short for `className` and `textContent`, other names are properties or attributes. */
export function el(name, { class: className, text, ...rest } = {}, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(rest)) {
    if (value === undefined || value === null) continue;
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Write text only where it has changed: a selection in it stays. */
export function setText(node, text) {
  const wanted = String(text ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Make the children of `parent` those of `items`; what is known already keeps its node, and with it focus and selection. */
export function reconcile(parent, items, keyOf, create) {
  const known = new Map(Array.from(parent.children, (node) => [node.dataset.key, node]));
  const wanted = new Set(items.map((item) => String(keyOf(item))));
  for (const [key, node] of known) if (!wanted.has(key)) remove(node);
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = known.get(key);
    if (node === undefined) {
      node = create(item);
      node.dataset.key = key;
      parent.insertBefore(node, place);
    } else if (node === place) {
      place = place.nextElementSibling;
    } else if (parent.moveBefore) {
      parent.moveBefore(node, place); // does not lose focus
    } else {
      parent.insertBefore(node, place);
    }
    node.update?.(item);
  }
}

/** Focus must not fall back to the top of the page when its element goes. */
function remove(node) {
  const heading = node.contains(document.activeElement) && node.closest("section")?.querySelector("h2[tabindex]");
  node.remove();
  if (heading) heading.focus({ preventScroll: true });
}

/** Add options for names that a select or datalist lacks; none is taken away, as it may be the chosen one. */
export function addOptions(list, names) {
  const known = new Set(Array.from(list.options, (option) => option.value));
  for (const name of names) if (name && !known.has(name)) list.append(el("option", { text: name }));
}

export const cell = (text, properties = {}) => el("td", { dir: "auto", text: text ?? "–", ...properties });

/** Write a figure of the header. */
export const figure = (name, text) => setText(document.querySelector(`[data-figure="${name}"]`), text);

export const count = (number) => (number === null || number === undefined ? "–" : Number(number).toLocaleString("en"));

export function usd(amount) {
  if (amount === null || amount === undefined) return "–";
  return `$${Number(amount).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 4 })}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)}\u00a0s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes}\u00a0min` : `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}

/** An element for a time in Unix seconds; the date is shown unless it is today. */
export function time(unix) {
  if (unix === null || unix === undefined) return el("span", { text: "–" });
  const date = new Date(unix * 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  const text = isToday ? date.toLocaleTimeString("en-GB") : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return el("time", { dateTime: date.toISOString(), text });
}

/** A button that copies; where the clipboard is not available, it selects the text instead. */
function copyButton(name, source) {
  const button = el("button", { type: "button", text: "Copy", "aria-label": `Copy ${name}` });
  const say = (text) => {
    button.textContent = text;
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      say("Copied");
      setText(byId("spoken"), `Copied ${name}`);
    } catch {
      getSelection().selectAllChildren(source);
      say("Selected");
      setText(byId("spoken"), "Selected; copy it with the keyboard");
    }
  });
  return button;
}

/** A titled block of code with a button to copy it. */
export function codeBlock(title, text) {
  const code = el("code", { text });
  const head = el("div", { class: "head" }, el("h3", { text: title }), copyButton(title, code));
  return el("div", { class: "code-block" }, head, el("pre", { tabIndex: 0, role: "region", "aria-label": title }, code));
}

/** Open the page's dialog; the browser returns focus to where it was when it closes. */
export function openDialog(title, ...content) {
  const dialog = byId("dialog");
  setText(byId("dialog-title"), title);
  byId("dialog-body").replaceChildren(...content);
  byId("dialog-close").onclick = () => dialog.close();
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  if (!dialog.open) dialog.showModal();
  byId("dialog-title").focus();
  dialog.scrollTop = 0;
}
