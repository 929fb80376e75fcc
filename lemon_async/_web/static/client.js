// A small client of the public API: what it sends may cost money, so it sends again only what was refused for the moment.

import { apiKey } from "./server.js";

const MAX_ATTEMPTS = 5;
const MAX_WAIT_S = 30;
const MAX_POLL_MS = 3000;
const MIN_POLL_MS = 200;
const MAX_RENEWALS = 5;
const MAX_MISSING = 5; // polls in a row that do not find the task
const DEADLINE_MS = 15 * 60_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Send one request with the key; `status` is null if there was no response, `body` is null if it cannot be read. */
async function call(path, options = {}) {
  const headers = { Authorization: `Bearer ${apiKey}`, ...(options.body && { "Content-Type": "application/json" }) };
  try {
    const response = await fetch(path, { ...options, headers, redirect: "manual" });
    return { status: response.status, headers: response.headers, body: await read(response).catch(() => null) };
  } catch {
    return { status: null, headers: new Headers(), body: null };
  }
}

/** Read JSON, or the pictures in a stream of events. */
async function read(response) {
  const text = await response.text();
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) return JSON.parse(text);
  const events = Array.from(text.matchAll(/^data: ({.*})\r?$/gm), ([, json]) => JSON.parse(json));
  return events.find((event) => event.error) ?? { data: events.filter((event) => event.type?.endsWith("completed")) };
}

const errorOf = ({ body }) => (body && typeof body.error === "object" ? body.error : null);
const isRefusedForNow = (answer) => errorOf(answer) && (answer.status === 429 || (answer.status === 503 && errorOf(answer).retryable));

/** What an answer says, without a full stop at its end. */
function words(answer) {
  if (answer.status === null) return "no response";
  const error = errorOf(answer);
  return error ? `${answer.status} ${error.code ?? ""}: ${error.message ?? ""}`.replace(/\.$/, "") : `${answer.status || "a redirect"} without readable JSON`;
}

/** Send a request and see its task through; `report(kind, text)` gets each step: `step`, `problem`, `done` or `stop`. */
export async function run({ method = "POST", path, body }, report) {
  const isPaid = method === "POST";
  for (let attempt = 1; ; attempt += 1) {
    report("step", `${method} ${path}`);
    const answer = await call(path, { method, body });
    if (isRefusedForNow(answer) && attempt < MAX_ATTEMPTS) {
      const wait = Math.min(MAX_WAIT_S, Number(errorOf(answer).retry_after ?? answer.headers.get("Retry-After")) || 1);
      report("problem", `${words(answer)}. Nothing was sold. Trying again in ${wait} s.`);
      await sleep(wait * 1000);
    } else if (errorOf(answer)) {
      const money = isPaid && answer.status >= 400 ? "Nothing was sold." : "";
      return report("stop", [`${words(answer)}.`, errorOf(answer).hint, money].filter(Boolean).join(" "));
    } else if (answer.body && answer.status < 300) {
      return follow(answer, isPaid, report);
    } else {
      const advice = isPaid ? " It may have been sold: look into the ledger before you send it again." : "";
      return report("stop", `Outcome unknown: ${words(answer)}.${advice}`);
    }
  }
}

async function follow({ status, headers, body }, isPaid, report) {
  if (!body.poll_url && body.data?.length) return finish(body, report, null);
  if (!body.poll_url) return isPaid ? report("stop", `Outcome unknown: ${status} without pictures or a task.`) : report("done", `${status}`);
  const url = new URL(body.poll_url, location.href);
  if (url.origin !== location.origin) return report("stop", `The poll address is of another server, which gets no key: ${url.origin}`);
  report("step", `${status}: accepted as task ${body.task_id ?? body.id}`);
  const rest = Math.max(MIN_POLL_MS, Math.min(MAX_POLL_MS, MAX_POLL_MS / (Number(headers.get("X-Emulator-Speed")) || 1)));
  let renewals = MAX_RENEWALS;
  const poll = () => untilDone(url, rest, report, (answer) => finish(answer, report, renewals-- > 0 ? poll : null));
  return poll();
}

async function untilDone(url, rest, report, done) {
  const end = performance.now() + DEADLINE_MS;
  for (let number = 1, missing = 0; performance.now() < end; number += 1) {
    await sleep(rest);
    const answer = await call(url.href);
    const state = answer.status === 200 ? answer.body?.status : null;
    missing = answer.status === 404 ? missing + 1 : 0;
    if (state === "completed") return done(answer.body);
    if (state === "failed") return report("stop", `The task failed: ${answer.body.error?.message ?? answer.body.error ?? "no reason given"}`);
    if ([401, 403].includes(answer.status) || missing > MAX_MISSING) return report("stop", `Poll ${number}: ${words(answer)}.`);
    if (!state) report("problem", `Poll ${number}: ${words(answer)}. That ends nothing; asking again.`);
  }
  return report("stop", "The task has not ended within 15 minutes.");
}

async function finish({ data }, report, renew) {
  if (!data?.length) return report("stop", "The task completed without a picture.");
  for (const { url } of data.filter((image) => image.url)) {
    const reason = await download(url);
    if (!reason) continue;
    if (!renew) return report("stop", `Download: ${reason}.`);
    report("problem", `Download: ${reason}. Asking the task for a new link.`);
    return renew();
  }
  return report("done", data.length === 1 ? "The picture is here." : `${data.length} pictures are here.`);
}

/** Download a result, without the key; return what went wrong. */
async function download(url) {
  try {
    const response = await fetch(url, { credentials: "omit" });
    await response.blob();
    return response.ok ? null : `${response.status}`;
  } catch {
    return "the connection broke";
  }
}
