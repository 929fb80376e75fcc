// A list of the server: filters, pages, and updates in place.

import { addOptions, byId, count, reconcile, setText } from "./dom.js";
import { get } from "./server.js";

const REST_MS = 700; // between two refreshes
const RETRY_MS = 3000; // after an error
const TYPING_MS = 250;

/** Shows the items of `path` in the section `id`, newest first; `onPage` gets each page of the server. */
export class List {
  #section;
  #form;
  #options;
  #before = [""]; // the cursors of this page and of the newer ones
  #next = null;
  #timer = 0;
  #request = null;
  #refreshedAt = -Infinity;
  #isStale = true;

  constructor(id, path, { noun, nouns, keyOf, create, onPage = () => {} }) {
    this.#section = byId(id);
    this.#form = this.#section.querySelector("form");
    this.#options = { path, noun, nouns, keyOf, create, onPage };
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("input", () => this.#turn("filter", [""], TYPING_MS));
    this.#find("older").addEventListener("click", () => this.#turn("page", [...this.#before, this.#next]));
    this.#find("newer").addEventListener("click", () => this.#turn("page", this.#before.slice(0, -1)));
    document.addEventListener("visibilitychange", () => this.refresh());
    this.#note("Loading…");
  }

  /** Offer these names in a filter. */
  offer(name, options) {
    addOptions(this.#form.elements[name], options);
  }

  /** Fetch the list soon if it has changed, or when it is next visible. */
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

  /** The user wants another page or filter: an answer that is under way is of no use then. */
  #turn(cause, before, delay = 0) {
    this.#before = before;
    this.#request?.abort();
    this.#request = null;
    this.#schedule(delay, cause);
  }

  #schedule(delay, cause = "") {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#load(cause);
    }, delay);
  }

  async #load(cause) {
    const request = (this.#request = new AbortController());
    this.#isStale = false;
    try {
      const parameters = { ...Object.fromEntries(new FormData(this.#form)), before: this.#before.at(-1) };
      const page = await get(this.#options.path, parameters, request.signal);
      if (request.signal.aborted) return;
      this.#show(page, cause);
    } catch (error) {
      if (request.signal.aborted) return;
      this.#note(error.message);
      setTimeout(() => this.refresh(true), RETRY_MS);
    }
    this.#request = null;
    this.#refreshedAt = performance.now();
    this.refresh();
  }

  #show(page, cause) {
    const { noun, nouns, keyOf, create, onPage } = this.#options;
    const number = this.#before.length;
    const isFiltered = [...new FormData(this.#form).values()].some(Boolean);
    // A search that would take long ends before it has seen everything: its total is not known.
    const amount = page.total === null ? `At least ${page.items.length}` : count(page.total);
    const found = page.total === 1 ? `${noun}${isFiltered ? " matches" : ""}` : `${nouns}${isFiltered ? " match" : ""}`;
    const total = `${amount} ${found}${number > 1 ? `, page ${number}` : ""}`;
    const none = page.next ? `No ${nouns} match so far. “Older” goes on.` : `No ${nouns} ${isFiltered ? "match" : "yet"}.`;
    this.#next = page.next;
    this.#note(page.items.length ? "" : none);
    setText(this.#find("total"), total);
    // The button that turned the page may be disabled now. After `reconcile`, the browser would lay the list out here.
    if (cause === "page") this.#section.querySelector("h2").focus();
    reconcile(this.#find("items"), page.items, keyOf, create);
    if (cause) setText(byId("spoken"), total);
    this.#find("newer").parentElement.hidden = number === 1 && !page.next;
    this.#find("newer").disabled = number === 1;
    this.#find("older").disabled = !page.next;
    onPage(page);
  }
}
