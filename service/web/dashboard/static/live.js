// Keeps a page live: fetches it again and renews the regions marked data-live; buttons that act; offline notice.
import { parse, stringify } from "./exact.js";
import { morphChildren, named } from "./morph.js";

const body = document.body;
export const root = document.documentElement.dataset.root; // the path below which people see the service
const banners = ["away", "signed-out", "gone"].map((id) => document.getElementById(id));
const said = document.getElementById("said");
const AGAIN_MILLISECONDS = 3000;
const PATIENCE_MILLISECONDS = 60_000; // with something in between that neither answers nor gives up
const POLL_SECONDS = 2; // of a page without a stream
const SILENT_SECONDS = 15; // of a page whose stream says nothing: a proxy in between may hold back what it says
const STREAMS = 2; // of all tabs together: a browser opens six connections to a service, and each stream holds one
const REFUSED_MILLISECONDS = 30_000; // until a stream that was refused is tried again
let busy = false;
let again = false;
let later = null; // the next try of what has failed
let stream = null; // the one stream of events: of what the page shows, while that has not ended and somebody sees it
let taking = false;
let refused = -Infinity;
let polled = Date.now();

// What has the focus keeps it, in its new form; what has gone leaves it to the page's content.
function renew(region, fresh) {
  const active = region.contains(document.activeElement) ? document.activeElement : null;
  const place = active && twins(region, active).indexOf(active);
  morphChildren(region, fresh);
  if (active && document.activeElement !== active) (twins(region, active)[place] || document.getElementById("main")).focus({ preventScroll: true });
}

function twins(region, control) {
  return [...region.querySelectorAll("a, button, input, summary, [tabindex]")].filter((one) => named(one) === named(control));
}

// What an answer to the page's own address is: the page, "gone", "signed-out", or "away" where something in between answers for fflab.
function answered(answer, page) {
  const ours = page.documentElement.dataset.root !== undefined;
  const regions = [...document.querySelectorAll("[data-live]")];
  if (answer.ok && ours && (regions.length === 0 || regions.some((region) => page.getElementById(region.id)))) return "page";
  if (ours && answer.status === 404) return "gone";
  return [401, 403].includes(answer.status) || page.querySelector("input[type=password]") ? "signed-out" : "away";
}

// Show one of the banners, or none. The page's own address leads through the sign-in, and back.
function warn(shown) {
  document.querySelector("[data-here]").href = location.href.split("#")[0];
  for (const banner of banners) banner.hidden = banner.id !== shown;
}

function takeOver(page) {
  for (const region of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(region.id);
    if (fresh) renew(region, fresh);
  }
  document.title = page.title;
  for (const name of ["events", "refresh"]) if (page.body.dataset[name] === undefined) delete body.dataset[name]; else body.dataset[name] = page.body.dataset[name];
  follow();
  document.dispatchEvent(new CustomEvent("refreshed"));
}

async function asked() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html", "Fflab-Refresh": "yes" }, signal: AbortSignal.timeout(PATIENCE_MILLISECONDS) });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return { found: answered(answer, page), page };
}

// Only the page itself says that there is nothing more to follow, or that it is gone: whatever else answers, it is asked for again.
export async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  clearTimeout(later);
  try {
    const { found, page } = await asked().catch(() => ({ found: "away" }));
    warn(found);
    if (found === "page") takeOver(page);
    else if (found === "gone") { delete body.dataset.events; delete body.dataset.refresh; leave(); }
    else later = setTimeout(refresh, AGAIN_MILLISECONDS); // what there was to see may be over: no event would come again
  } finally {
    busy = false;
    if (again) { again = false; refresh(); }
  }
}

export function say(text) {
  said.textContent = text;
  said.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.hidden = true; }, 8000);
}

// In words what is wrong with an answer that may come from something in between; `doubt` says what may have happened all the same.
export function wrong(status, text, doubt) {
  try {
    const problem = parse(text);
    if (problem.detail || problem.title) return problem.detail || problem.title;
  } catch { /* it is a page of something in between */ }
  if (status === 413) return "A proxy in between refuses bodies of this size (413); nothing was kept. Its operator raises its limit: client_max_body_size in nginx.";
  if ([401, 403].includes(status) || (status >= 200 && status < 400)) return `Something in between answers instead of fflab (${status}), as if you were signed in no more. Reload the page.`;
  return `Something in between answers instead of fflab (${status}). ${doubt}`;
}

const MAY_BE_DONE = "It may have been done all the same: see what the page shows before you try again.";

export async function send(method, url, content, { headers = {}, doubt = MAY_BE_DONE } = {}) {
  try {
    const sent = typeof content === "string" ? content : stringify(content); // a text is JSON already
    const options = content === undefined ? { headers } : { headers: { "Content-Type": "application/json", ...headers }, body: sent };
    const answer = await fetch(url, { method, ...options });
    const text = await answer.text();
    if (answer.status === 204) return {};
    if (answer.ok && answer.headers.get("Content-Type")?.includes("json")) return parse(text);
    say(wrong(answer.status, text, doubt));
  } catch {
    say(`The service does not answer. ${doubt}`);
  }
  return null;
}

function throttled(work, milliseconds) {
  let timer = null;
  let last = 0;
  return () => {
    if (timer) return;
    timer = setTimeout(() => { timer = null; last = Date.now(); work(); }, Math.max(0, last + milliseconds - Date.now()));
  };
}

// Whether the text of an element is in the clipboard now; where no page may write there, it is selected and that is said.
// Browsers have navigator.clipboard only where the address is that of this machine or has TLS.
async function copied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    const exactly = (event) => { event.clipboardData.setData("text/plain", element.textContent); event.preventDefault(); }; // a selection leaves out the last end of line
    document.addEventListener("copy", exactly);
    const done = document.execCommand("copy");
    document.removeEventListener("copy", exactly);
    if (done) return true;
    say("This browser lets no page copy. The text is selected: press Ctrl+C, or Cmd+C on a Mac.");
    return false;
  }
}

// Follow what the page has to follow now: a job that has been retried again, one that has ended no longer.
function follow() {
  const address = body.dataset.events;
  const path = address?.split("?")[0];
  if (stream && stream.path === path && stream.events.readyState !== EventSource.CLOSED) return;
  leave();
  if (path && !document.hidden && Date.now() - refused > REFUSED_MILLISECONDS) take();
}

function leave() {
  stream?.events.close();
  stream?.release();
  stream = null;
}

// Open a stream if one is free; a page without one asks again from time to time. Browsers have locks only where the address is that of this machine or has TLS.
async function take() {
  if (taking || !navigator.locks) return;
  taking = true;
  let release = null;
  for (let slot = 0; slot < STREAMS && !release; slot += 1) release = await locked(`fflab-stream-${slot}`);
  taking = false;
  const address = body.dataset.events;
  if (!release) return;
  if (!address || document.hidden) { release(); return; }
  stream = { path: address.split("?")[0], events: new EventSource(address), release };
  listen(stream.events);
}

// The function that releases a lock which this page holds from now on; null: another page holds it.
function locked(name) {
  return new Promise((done) => {
    navigator.locks.request(name, { ifAvailable: true }, (lock) => (lock ? new Promise(done) : done(null))).catch(() => done(null));
  });
}

function listen(events) {
  const soon = throttled(refresh, 700);
  for (const type of ["state", "progress", "rows", "log"]) events.addEventListener(type, () => { polled = Date.now(); soon(); });
  events.addEventListener("end", () => { leave(); refresh(); });
  events.addEventListener("open", () => warn(null));
  events.addEventListener("error", () => { warn(events.readyState === EventSource.OPEN ? null : "away"); if (events.readyState === EventSource.CLOSED) { refused = Date.now(); leave(); } });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
  if (button.dataset.post && (await send("POST", button.dataset.post))) refresh();
  if (button.dataset.patch && (await send("PATCH", button.dataset.patch, button.dataset.body))) refresh();
  if (button.dataset.delete && button.dataset.stay !== undefined) { if (await send("DELETE", button.dataset.delete)) refresh(); }
  else if (button.dataset.delete && (await send("DELETE", button.dataset.delete))) location.href = button.dataset.then || `${root}/`;
  if (button.dataset.copy !== undefined) {
    button.textContent = await copied(button.parentElement.querySelector("pre, a")) ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }
  if (button.dataset.share) await share(button);
});

// A new link is shown once: only this answer has its address.
async function share(button) {
  const seconds = Number(button.dataset.seconds) || null;
  const answer = await fetch(button.dataset.share, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ expires_seconds: seconds }) });
  const made = await answer.json();
  if (!answer.ok) { say(made.detail || made.title); return; }
  const link = document.createElement("a");
  link.href = link.textContent = made.url;
  const copy = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
  copy.dataset.copy = "";
  document.getElementById("shared").replaceChildren("Copy it now, it is not shown again: ", link, " ", copy);
  refresh();
}

// On paper what a reader needs is open, and charts that were drawn for a dark page are turned light.
addEventListener("beforeprint", () => {
  body.classList.toggle("drawn-dark", matchMedia("(prefers-color-scheme: dark)").matches);
  for (const details of document.querySelectorAll(":is(#paper details, .explained):not([open])")) { details.open = true; details.dataset.printed = ""; }
});
addEventListener("afterprint", () => {
  body.classList.remove("drawn-dark");
  for (const details of document.querySelectorAll("details[data-printed]")) { details.open = false; delete details.dataset.printed; }
});

addEventListener("pageshow", follow);
document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else if (body.dataset.events || body.dataset.refresh) refresh(); });
addEventListener("pagehide", leave); // a page that is kept for the way back holds no connection
setInterval(() => {
  const seconds = body.dataset.refresh || (body.dataset.events ? (stream ? SILENT_SECONDS : POLL_SECONDS) : 0);
  if (document.hidden || !seconds || Date.now() - polled < 1000 * seconds) return;
  polled = Date.now();
  refresh();
}, 500);
follow();
