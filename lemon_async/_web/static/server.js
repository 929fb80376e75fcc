// Talk to the server of the page: lists, changes, and news of what has changed.

import { byId, setText } from "./dom.js";

const metaOf = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";
export const apiKey = metaOf("api-key");

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Error(body?.error?.message ?? `The server answered ${response.status}.`);
  return body;
}

/** Get JSON; parameters that are empty are left out. */
export function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
  return send(query.size ? `${path}?${query}` : path, { signal });
}

/** Change something on the server. */
export function change(method, path, body = undefined) {
  const headers = { "X-Page-Token": metaOf("page-token"), "Content-Type": "application/json" };
  return send(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

const RETRY_MS = 3000;
const REST_MS = 60_000;

/** Follow the summaries while the page is visible: a browser has few connections to one server, for all its tabs. */
export function follow(onSummary) {
  let source = connect(onSummary);
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (!document.hidden) source = connect(onSummary);
  });
  // The browser reconnects by itself, unless the server refused the connection.
  setInterval(() => {
    if (source.readyState === EventSource.CLOSED && !document.hidden) source = connect(onSummary);
  }, RETRY_MS);
}

function connect(onSummary) {
  const banner = byId("connection");
  const source = new EventSource("/_page/events");
  source.addEventListener("summary", (event) => {
    setText(banner, "");
    onSummary(JSON.parse(event.data));
  });
  source.addEventListener("open", () => setText(banner, ""));
  source.addEventListener("error", () => setText(banner, "Connection lost. Trying again…"));
  return source;
}

/** Return a function that says a sentence to screen readers: the newest one, and at most one in a minute. */
export function announcer() {
  let timer = 0;
  let newest = "";
  return (text) => {
    newest = text;
    timer ||= setTimeout(() => {
      timer = 0;
      setText(byId("spoken"), newest);
    }, REST_MS);
  };
}
