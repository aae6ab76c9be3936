// Draws the charts of a page from the server's own specifications: those in sight first, the others while nothing else is
// to be done, anew whenever the page has been refreshed. What the user chose of their axes is kept in the page's address.
import { ChartSpec } from "./chart-spec.js";
import { ChartView, swatch } from "./chart-view.js";

const library = import(document.querySelector("link[rel=modulepreload]").href);
const dark = matchMedia("(prefers-color-scheme: dark)");
const AHEAD = "600px"; // charts so near are drawn before they are seen
const AT_ONCE = 2; // asked for at the same time
const STILL = 150; // milliseconds after which a page that was scrolled is at rest: drawing would make it jerk
const views = new WeakMap(); // figure -> its view, which holds memory until it is told to let go
const drawn = new WeakMap(); // figure -> the specification that it was drawn from
const rooms = new WeakMap(); // figure -> the width that it was drawn for
const states = new Map(); // name of a chart -> what the user chose of it
const near = new Set(); // figures in sight, or nearly so
const waiting = new Map(); // figures that are to be drawn -> whether from scratch
const choices = read();
let working = 0;
let scrolled = -Infinity; // when the page was moved last
let idle = false;
let resting = 0;

// What the address says: over=flow, log=loss.y,goodness.y
function read() {
  const found = new URLSearchParams(location.hash.slice(1));
  return { over: found.get("over") === "flow" ? "flow" : "epoch", log: new Map((found.get("log") ?? "").split(",").filter(Boolean).map((one) => (one.startsWith("-") ? [one.slice(1), false] : [one, true]))) };
}

function keep() {
  const found = new URLSearchParams();
  if (choices.over === "flow") found.set("over", "flow");
  if (choices.log.size) found.set("log", [...choices.log].map(([one, wanted]) => (wanted ? one : `-${one}`)).join(","));
  const others = location.hash && !/^#(over|log)=/.test(location.hash); // a place in the page
  if (!others) history.replaceState(history.state, "", `${location.pathname}${location.search}${found.size ? `#${decodeURIComponent(found)}` : ""}`);
}

function stateOf(figure) {
  const name = figure.dataset.name;
  if (!states.has(name)) states.set(name, { range: {}, hidden: {} });
  return states.get(name);
}

function options() {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const config = { background: null, text: { color: ink }, title: { color: ink, subtitleColor: ink }, axis: { labelColor: ink, titleColor: ink }, legend: { labelColor: ink, titleColor: ink }, header: { labelColor: ink, titleColor: ink } };
  return { actions: false, ast: true, defaultStyle: false, renderer: "canvas", tooltip: { disableDefaultStyle: true }, config };
}

// A line as lines of at most so many letters.
function wrapped(line, most) {
  return line.match(new RegExp(`.{1,${Math.max(most, 12)}}(\\s|$)`, "g"))?.map((one) => one.trim()) ?? [line];
}

// The title and the caption are text of the page; the plot is as wide as the card has room.
function fit(figure, specification, room) {
  const box = figure.querySelector(".drawing");
  figure.querySelector(".heading").textContent = specification.title.text;
  figure.querySelector(".caption").replaceChildren(...(specification.usermeta?.caption ?? specification.title.subtitle).map((line) => Object.assign(document.createElement("span"), { textContent: line })));
  delete specification.title;
  const whole = isWhole(figure);
  const others = [...figure.children].filter((one) => one !== box).reduce((sum, one) => sum + one.offsetHeight, 0);
  const tall = whole ? Math.max(240, innerHeight - others - 100) : null;
  if (specification.facet) {
    const panels = specification.facet.sort?.length ?? 2;
    const beside = 65 + (hasNames(specification) ? 115 : 0) + (specification.spec.layer?.some((one) => one.layer) ? 40 : 0); // labels of the axis, and the word of a line
    const most = Math.max(1, Math.min(panels, columnsOf(box)));
    specification.columns = Math.ceil(panels / Math.ceil(panels / most)); // rows that are equally full
    const widest = whole ? 900 : hasNames(specification) ? 640 : room; // few rows of a heat map do not grow clearer with their width
    specification.spec.width = Math.min(widest, Math.max(80, Math.floor((room - 20) / specification.columns) - beside));
    if (!whole) specification.spec.height = panels > CROWDED ? 120 : 170;
    if (whole) specification.spec.height = Math.max(140, Math.floor(tall / Math.ceil(panels / specification.columns)) - 70);
  } else if (specification.concat) specification.columns = room < 720 ? 1 : 2;
  else if (specification.layer || specification.mark) {
    specification.width = Math.max(200, room);
    if (whole && !specification.layer?.some((one) => one.encoding?.y?.axis === null)) specification.height = tall;
    specification.autosize = { type: "fit-x", contains: "padding" };
  }
  specification.padding = 4;
}

// How many panels stand beside each other: the style sheet says it, which keeps room for the rows before they are drawn.
function columnsOf(box) {
  return Number(getComputedStyle(box).getPropertyValue("--columns")) || 1;
}

function isWhole(figure) {
  return document.fullscreenElement === figure || figure.classList.contains("whole");
}

// The caption of a chart that carries the answer is folded, so that both fit the first screen: where there is more room, it is open.
function unfoldWhole() {
  for (const details of document.querySelectorAll(".explained")) {
    const whole = isWhole(details.closest("figure"));
    if (whole === (details.dataset.whole !== undefined)) continue;
    details.open = whole;
    details.toggleAttribute("data-whole", whole);
  }
}

function address(figure) {
  const url = figure.dataset.chart;
  return dark.matches ? `${url}${url.includes("?") ? "&" : "?"}theme=dark` : url;
}

const CROWDED = 6; // panels: of more, each is lower
// What the rows of the panels are encoded by where they have names instead of numbers.
function namesOf(specification) {
  return [specification.spec, ...(specification.spec.layer ?? [])].map((one) => one.encoding?.y).find((y) => ["nominal", "ordinal"].includes(y?.type));
}

function hasNames(specification) {
  return namesOf(specification) !== undefined;
}

// The pixels that the names beside a panel take: as many as the longest needs, and no more than its axis lets it have.
function besideNames(specification, spec) {
  const longest = Math.max(0, ...spec.rows.map((row) => String(row[namesOf(specification).field] ?? "").length));
  return longest ? Math.min(NAMES, NAMELESS + LETTER * longest) : NAMES;
}

const [AXIS, NAMES] = [80, 130]; // pixels beside a panel: of numbers along its axis, of names
const [NAMELESS, LETTER] = [45, 7]; // pixels beside a panel without its names, and of a letter of a name
const NARROWEST_WORD = 34; // pixels of a cell that holds 0.527
const LEAST_HEIGHT = 60;
const AROUND_A_PLOT = 84; // pixels of the axes of a plot, and of the name of its panel
const AXIS_BELOW = 56; // pixels of the axis below a plot, with its title
const LONGEST_TITLE = 200; // pixels of the title of an axis
const BUTTONS = 20; // pixels that the buttons for series and axes may take beyond the room that is kept for them

// The charts that carry the answer share what is left of the first screen: beside each other, or above each other where that is too narrow.
function fitFirstScreen(specification, figure, spec) {
  const lead = figure.closest(".lead");
  if (!lead || isWhole(figure)) return;
  const columns = getComputedStyle(lead).gridTemplateColumns.split(" ").length;
  const room = innerHeight - lead.getBoundingClientRect().top - scrollY;
  const others = [...figure.children].filter((one) => !one.matches(".drawing")).reduce((sum, one) => sum + one.offsetHeight, 0);
  const tools = figure.querySelector(".tools");
  const buttons = tools.childElementCount || columns < 2 ? 0 : BUTTONS; // on a phone there are none
  const panels = specification.facet?.sort?.length ?? (specification.facet ? 2 : 1);
  if (specification.facet) { // as few rows as the width allows
    specification.columns = Math.min(panels, columns < 2 ? 2 : 3);
    const beside = hasNames(specification) ? besideNames(specification, spec) : AXIS;
    specification.spec.width = Math.max(80, Math.floor(figure.querySelector(".drawing").clientWidth / specification.columns) - beside);
  }
  const rows = specification.facet ? Math.ceil(panels / specification.columns) : 1;
  const height = ((columns < 2 && rows < 2 ? room / 2 : room) - others - buttons - 40) / rows - AROUND_A_PLOT;
  const owner = specification.facet ? specification.spec : specification;
  if (!owner.height) return;
  const kept = columns < 2 && panels < 2 ? parseFloat(getComputedStyle(figure.querySelector(".drawing")).minHeight) - AXIS_BELOW : 0; // on a phone the room stays
  owner.height = Math.round(Math.max(LEAST_HEIGHT, kept || 0, Math.min(owner.height, height)));
  if (owner.height < LONGEST_TITLE) { // the title of the axis would be cut; the heading says what is drawn
    for (const one of [owner, ...(owner.layer ?? []), ...(owner.layer ?? []).flatMap((inner) => inner.layer ?? [])]) if (one.encoding?.y?.title) one.encoding.y.title = null;
  }
}

// Words in the cells of a heat map that would run into each other are left out; who points at a cell is told its value.
function leaveOutCrowdedWords(specification, spec) {
  const owner = specification.facet ? specification.spec : specification;
  const cells = owner.layer?.find((one) => (one.mark?.type ?? one.mark) === "rect" && ["nominal", "ordinal"].includes(one.encoding?.x?.type));
  if (!cells || !owner.width) return;
  const across = new Set(spec.rows.map((row) => row[cells.encoding.x.field]).filter((value) => value !== undefined)).size;
  if (owner.width / across < NARROWEST_WORD) owner.layer = owner.layer.filter((one) => (one.mark?.type ?? one.mark) !== "text");
}

async function draw(figure, whole) {
  const url = address(figure);
  const known = figure.dataset.drawn;
  const answer = await fetch(url, known && !whole ? { headers: { "If-None-Match": known } } : {});
  if (answer.status === 304) return;
  if (!answer.ok) throw new Error(await said(answer));
  const text = await answer.text();
  const version = answer.headers.get("ETag") ?? "";
  if (!whole && drawn.get(figure) === text) { figure.dataset.drawn = version; return; }
  await library;
  await paint(figure, text);
  figure.dataset.drawn = version;
}

// Why there is no chart, in the server's own words.
async function said(answer) {
  if (answer.status === 404) return "There are no rows for it yet. They come with the next measured epoch or cell.";
  const problem = await answer.json().catch(() => ({}));
  return problem.detail ?? `The service answered ${answer.status}.`;
}

async function paint(figure, text) {
  const specification = JSON.parse(text); // the library draws with JavaScript's own numbers: figures, never seeds
  const box = figure.querySelector(".drawing");
  const panels = specification.facet?.sort?.length ?? (specification.concat || specification.vconcat ? 2 : 1);
  figure.classList.toggle("panels", panels > 1);
  figure.classList.toggle("many", panels > 2);
  const room = box.clientWidth;
  const state = stateOf(figure);
  const spec = new ChartSpec(specification);
  const hasBoth = spec.hasFlowTime; // epochs, and flow time in their place
  if (choices.over === "flow" && hasBoth) spec.useFlowTime();
  const before = { x: spec.axes.x?.isLog, y: spec.axes.y?.isLog };
  const why = {};
  for (const channel of ["x", "y"]) {
    if (!spec.axes[channel] || !["linear", "log"].includes(spec.axes[channel].kind)) continue;
    why[channel] = spec.whyNotLog(channel);
    const wanted = choices.log.get(`${figure.dataset.name}.${channel}`);
    if (wanted !== undefined && !(wanted && why[channel])) spec.setLog(channel, wanted);
  }
  spec.connect(state);
  fit(figure, specification, room);
  fitFirstScreen(specification, figure, spec);
  leaveOutCrowdedWords(specification, spec);
  const target = document.createElement("div"); // the old drawing stays until the new one is there
  box.append(target);
  let result;
  try {
    result = await window.vegaEmbed(target, specification, options());
  } catch (error) {
    target.remove();
    throw error;
  }
  views.get(figure)?.view.finalize();
  box.replaceChildren(target);
  const chart = new ChartView(figure, result.view, spec, state, move);
  views.set(figure, chart);
  drawn.set(figure, text);
  rooms.set(figure, room);
  const canvas = box.querySelector("canvas");
  canvas?.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
  canvas?.setAttribute("role", "img");
  showSeries(figure, chart);
  showTools(figure, chart, why, before);
  if (hasBoth) offerTime();
  chart.tell();
}

function showSeries(figure, chart) {
  const buttons = chart.spec.series.flatMap((series, number) => [...series.looks].map(([value, look]) => {
    const button = press(String(value), !chart.state.hidden[series.field]?.has(value), (on) => chart.hide(number, series.field, value, !on));
    button.prepend(swatch(look));
    return button;
  }));
  renew(figure.querySelector(".series"), buttons);
}

function showTools(figure, chart, why, before) {
  const found = [];
  const plain = (word, label, act) => found.push(Object.assign(document.createElement("button"), { type: "button", textContent: word, title: label, ariaLabel: label, onclick: act }));
  if (chart.canZoom) {
    plain("+", "Zoom in", () => chart.zoom(0.7));
    plain("−", "Zoom out", () => chart.zoom(1 / 0.7));
    plain("Reset", "Show all again", () => chart.reset());
  }
  for (const channel of ["x", "y"]) {
    if (why[channel] === undefined) continue;
    const button = press(`log ${channel}`, chart.spec.axes[channel].isLog, (on) => setLog(figure, channel, on, before[channel]));
    if (why[channel]) refuse(button, `No logarithmic ${channel} axis: ${why[channel]}`, chart);
    found.push(button);
  }
  plain("Full screen", isWhole(figure) ? "Leave the full screen" : "Full screen", () => toggleWhole(figure));
  renew(figure.querySelector(".tools"), found);
}

// A button that is on or off.
function press(word, on, act) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: word, ariaPressed: String(on) });
  button.addEventListener("click", () => {
    if (button.ariaDisabled === "true") return;
    button.ariaPressed = String(button.ariaPressed !== "true");
    act(button.ariaPressed === "true");
  });
  return button;
}

// A button that cannot be used says why, to who points at it, tabs to it or presses it.
function refuse(button, reason, chart) {
  Object.assign(button, { ariaDisabled: "true", title: reason, ariaDescription: reason });
  button.addEventListener("click", () => chart.readout(reason));
}

// Put new buttons in the place of the old; what had the focus has it again.
function renew(box, buttons) {
  const at = [...box.children].indexOf(document.activeElement);
  box.replaceChildren(...buttons);
  if (at >= 0) box.children[Math.min(at, box.children.length - 1)]?.focus({ preventScroll: true });
}

function setLog(figure, channel, wanted, before) {
  const key = `${figure.dataset.name}.${channel}`;
  if (wanted === before) choices.log.delete(key); else choices.log.set(key, wanted);
  stateOf(figure).range[channel] = null;
  keep();
  again(figure);
}

async function toggleWhole(figure) {
  if (document.fullscreenElement) return document.exitFullscreen();
  if (figure.requestFullscreen) return figure.requestFullscreen().catch(() => lay(figure));
  return lay(figure);
}

// Over the whole page, where a browser has no full screen.
function lay(figure) {
  figure.classList.toggle("whole");
  unfoldWhole();
  again(figure);
}

// The cursor of all charts in sight with the same x axis.
function move(source, value) {
  const field = source.spec.axes.x?.field;
  for (const figure of near) {
    const chart = views.get(figure);
    if (!chart || (chart !== source && (!chart.spec.hasTime || chart.spec.axes.x.field !== field))) continue;
    if (value === undefined) chart.clear(); else if (chart.spec.axes.x && chart.spec.axes.y) chart.point(value);
  }
}

// Epoch or flow time, for all charts of the page that have both.
function offerTime() {
  const charts = document.getElementById("charts");
  if (document.getElementById("over")) return;
  const box = Object.assign(document.createElement("fieldset"), { id: "over", className: "over" });
  box.append(Object.assign(document.createElement("legend"), { textContent: "Curves over" }));
  for (const [value, word] of [["epoch", "epochs"], ["flow", "flow time"]]) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "over", value, checked: choices.over === value });
    input.addEventListener("change", () => { choices.over = value; keep(); settleTime(); });
    label.append(input, ` ${word}`);
    box.append(label);
  }
  charts.before(box);
}

// Of a chart and its twin over flow time one is shown; the others change their axis.
function settleTime() {
  showTwins();
  for (const figure of figures()) {
    const chart = views.get(figure);
    if (!chart || chart.spec.hasTime) stateOf(figure).range = {};
    if (chart && !figure.hidden && !figure.dataset.name.endsWith("_flow")) again(figure);
  }
  pump();
}

function showTwins() {
  const there = new Map([...figures()].map((figure) => [figure.dataset.name, figure]));
  for (const [name, figure] of there) {
    const twin = there.get(`${name}_flow`);
    if (!twin) continue;
    figure.hidden = choices.over === "flow";
    twin.hidden = !figure.hidden;
    if (figure.hidden && !isFolded(figure)) twin.closest("details")?.setAttribute("open", "");
    offerTime();
  }
  for (const theme of document.querySelectorAll("details.theme")) theme.hidden = !theme.querySelector("figure:not([hidden])");
}

// Whether a chart is in a theme that nobody has opened: it is asked for when somebody does.
function isFolded(figure) {
  return figure.closest("details:not([open])") !== null;
}

function isAwaited(figure) {
  return !figure.hidden && !isFolded(figure);
}

function figures() {
  return document.querySelectorAll("figure[data-chart]");
}

// Draw from what is here already, without asking the service.
function again(figure) {
  if (isFolded(figure)) { if (rooms.has(figure)) rooms.set(figure, null); return; } // when it is opened
  const text = drawn.get(figure);
  if (text) paint(figure, text).catch((error) => fail(figure, error)); else ask(figure, true);
}

function ask(figure, whole) {
  waiting.set(figure, whole || waiting.get(figure) || false);
  pump();
}

// Draw what waits: what is in sight at once, the others when the browser has nothing else to do.
function pump() {
  for (const figure of waiting.keys()) if (!figure.isConnected) { waiting.delete(figure); near.delete(figure); }
  const moving = STILL - (performance.now() - scrolled);
  if (moving > 0) { if (!resting) resting = setTimeout(() => { resting = 0; pump(); }, moving); return; }
  while (working < AT_ONCE) {
    const figure = [...near].find((one) => waiting.has(one) && isAwaited(one));
    if (!figure) break;
    start(figure);
  }
  const next = [...waiting.keys()].find(isAwaited);
  if (!next || working || idle) return;
  idle = true;
  const later = window.requestIdleCallback ?? ((act) => setTimeout(act, 200));
  later(() => { idle = false; if (!working && waiting.has(next) && next.isConnected) start(next); else pump(); }, { timeout: 2000 });
}

function start(figure) {
  const whole = waiting.get(figure) || !figure.querySelector("canvas");
  waiting.delete(figure);
  working += 1;
  draw(figure, whole).catch((error) => fail(figure, error)).finally(() => { working -= 1; pump(); });
}

// A chart that is there stays; where there is none, the card says why and offers another try.
function fail(figure, error) {
  if (figure.querySelector("canvas")) return;
  const box = figure.querySelector(".drawing");
  const told = Object.assign(document.createElement("p"), { className: "failed-chart", textContent: `This chart could not be drawn. ${error.message}` });
  told.setAttribute("role", "status");
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Try again" });
  button.addEventListener("click", () => { told.textContent = "The chart is being drawn."; button.remove(); ask(figure, true); });
  box.replaceChildren(told, button);
}

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) near.add(target); else near.delete(target);
  pump();
}, { rootMargin: AHEAD });
const seen = new WeakSet();

export function drawAll(whole = false) {
  showTwins();
  for (const figure of figures()) {
    if (!seen.has(figure)) { seen.add(figure); sight.observe(figure); }
    waiting.set(figure, whole || waiting.get(figure) || false);
  }
  pump();
}

addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true });

// A phone's address bar changes the height with each scroll: only another width makes other drawings.
function fitAgain() {
  for (const figure of figures()) if (rooms.has(figure) && isAwaited(figure) && rooms.get(figure) !== figure.querySelector(".drawing").clientWidth) again(figure);
}

let resized = null;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(fitAgain, 200);
});
document.addEventListener("fullscreenchange", () => { unfoldWhole(); fitAgain(); });
document.addEventListener("toggle", (event) => { if (event.target.matches("details.theme[open]")) { fitAgain(); pump(); } }, true);
document.addEventListener("keydown", (event) => {
  const figure = event.target;
  if (!figure.matches?.("figure[data-chart]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "f") toggleWhole(figure);
  else if (event.key === "Escape" && figure.classList.contains("whole")) lay(figure);
  else if (!views.get(figure)?.key(event)) return;
  event.preventDefault();
});
addEventListener("hashchange", () => { Object.assign(choices, read()); settleTime(); });
document.addEventListener("refreshed", () => drawAll());
dark.addEventListener("change", () => drawAll(true));
drawAll(true);
