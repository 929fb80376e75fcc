// A list of the server: filters, pages, and updates in place.

import { addOptions, count, reconcile, setText } from "./dom.js";
import { get } from "./server.js";

const REST_MS = 700; // between two refreshes
const TYPING_MS = 250;

/** Shows the items of `path` in the section with this id, newest first. */
export class List {
  #section;
  #form;
  #path;
  #noun;
  #keyOf;
  #create;
  #onPage;
  #before = [""]; // the cursors of this page and of the newer ones
  #next = null;
  #timer = 0;
  #request = null;
  #refreshedAt = -Infinity;
  #isStale = true;

  constructor(id, path, { noun, keyOf, create, onPage = () => {} }) {
    this.#section = document.getElementById(id);
    this.#form = this.#section.querySelector("form");
    this.#path = path;
    this.#noun = noun;
    this.#keyOf = keyOf;
    this.#create = create;
    this.#onPage = onPage;
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("input", () => this.#turn([""], TYPING_MS));
    this.#find("older").addEventListener("click", () => this.#turn([...this.#before, this.#next]));
    this.#find("newer").addEventListener("click", () => this.#turn(this.#before.slice(0, -1)));
    document.addEventListener("visibilitychange", () => this.refresh());
    this.#note("Loading…");
  }

  /** Offer these names in a filter. */
  offer(name, options) {
    addOptions(this.#form.elements[name], options);
  }

  /** The list may have changed: fetch it soon, or when it is next visible. */
  refresh(isChanged = false) {
    this.#isStale ||= isChanged;
    if (!this.#isStale || this.#section.hidden || document.hidden || this.#timer || this.#request) return;
    this.#schedule(Math.max(0, this.#refreshedAt + REST_MS - performance.now()));
  }

  #find(name) {
    return this.#section.querySelector(`[data-${name}]`);
  }

  #note(text) {
    setText(this.#find("note"), text);
  }

  /** Go to another page or filter; an answer that is under way is of no use then. */
  async #turn(before, delay = 0) {
    this.#before = before;
    this.#request?.abort();
    this.#request = null;
    this.#schedule(delay, delay === 0);
  }

  #schedule(delay, isTurned = false) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#load(isTurned);
    }, delay);
  }

  async #load(isTurned) {
    const request = (this.#request = new AbortController());
    this.#isStale = false;
    try {
      const filters = Object.fromEntries(new FormData(this.#form));
      const page = await get(this.#path, { ...filters, before: this.#before.at(-1) }, request.signal);
      if (request === this.#request) this.#show(page, isTurned);
    } catch (error) {
      if (request !== this.#request) return;
      this.#note(error.message);
      this.#request = null;
      this.#isStale = true; // the next summary tries again
    }
    if (request !== this.#request) return;
    this.#request = null;
    this.#refreshedAt = performance.now();
    this.refresh();
  }

  #show(page, isTurned) {
    this.#next = page.next;
    const isFiltered = [...new FormData(this.#form).values()].some(Boolean);
    this.#note(page.items.length ? "" : isFiltered ? `No ${this.#noun} match.` : `No ${this.#noun} yet.`);
    const number = this.#before.length;
    const where = number > 1 ? `, page ${number}` : "";
    setText(this.#find("total"), `${count(page.total)} ${this.#noun}${isFiltered ? " match" : ""}${where}`);
    reconcile(this.#find("items"), page.items, this.#keyOf, this.#create);
    const [newer, older] = [this.#find("newer"), this.#find("older")];
    newer.parentElement.hidden = number === 1 && !page.next;
    if (isTurned) this.#section.querySelector("h2").focus();
    newer.disabled = number === 1;
    older.disabled = !page.next;
    this.#onPage(page);
  }
}
