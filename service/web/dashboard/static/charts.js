// Draws the charts of a page from the server's own specifications, anew whenever the page has been refreshed.
await import(document.querySelector("link[rel=modulepreload]").href);

const dark = matchMedia("(prefers-color-scheme: dark)");
const views = new WeakMap(); // figure -> its view, which holds memory until it is told to let go
const drawn = new WeakMap(); // figure -> the specification that it was drawn from
const busy = new WeakSet();
const waiting = new WeakSet(); // figures that are to be drawn again when they are done

function options(room) {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const config = { background: null, text: { color: ink }, title: { color: ink, subtitleColor: ink }, axis: { labelColor: ink, titleColor: ink }, legend: { labelColor: ink, titleColor: ink, columns: Math.max(1, Math.floor(room / 170)), labelLimit: room - 100, ...(room < 520 && { layout: { top: { direction: "vertical", anchor: "start" } } }) }, header: { labelColor: ink } };
  return { actions: false, ast: true, defaultStyle: false, renderer: "canvas", tooltip: { disableDefaultStyle: true }, config };
}

// A line as lines of at most so many letters.
function wrapped(line, most) {
  return line.match(new RegExp(`.{1,${Math.max(most, 12)}}(\\s|$)`, "g"))?.map((one) => one.trim()) ?? [line];
}

function fit(specification, room) {
  specification.title.text = wrapped(specification.title.text, Math.floor((room - 24) / 9));
  const caption = specification.usermeta?.caption ?? specification.title.subtitle; // the subtitle is wrapped for pictures
  specification.title.subtitle = caption.flatMap((line) => wrapped(line, Math.floor((room - 24) / 5.8)));
  if (specification.facet) {
    specification.columns = room < 480 ? 1 : 2;
    specification.spec.width = Math.max(160, Math.floor((room - 90) / specification.columns) - 20);
  } else {
    specification.width = Math.max(240, Math.min(640, room));
    specification.autosize = { type: "fit-x", contains: "padding" };
  }
}

const LEAST_HEIGHT = 90;
const AROUND_A_PLOT = 112; // pixels for axes, legend and frame

// The charts that carry the answer share what is left of the first screen: beside each other, or above each other where that is too narrow.
function fitFirstScreen(specification, figure) {
  const lead = figure.closest(".lead");
  if (!lead) return;
  const columns = getComputedStyle(lead).gridTemplateColumns.split(" ").length;
  const room = innerHeight - lead.getBoundingClientRect().top - scrollY;
  if (columns < 2) specification.title.subtitle = []; // captions are read in the pictures and in full screen
  const around = AROUND_A_PLOT + 18 * [specification.title.text].flat().length + 14 * specification.title.subtitle.length + (columns < 2 ? 0 : 40) + (specification.facet ? 90 : 0);
  const height = (columns < 2 ? room / 2 - 8 : room) - around;
  const owner = specification.facet ? specification.spec : specification;
  const panels = specification.facet ? 2 : 1; // rows of panels, as a rule
  if (specification.facet && columns < 2) {
    specification.columns = 2;
    specification.spec.width = Math.max(100, Math.floor((figure.clientWidth - 90) / 2) - 20);
  }
  if (owner.height) owner.height = Math.round(Math.max(LEAST_HEIGHT, Math.min(owner.height, height / panels)));
}

async function draw(figure, whole) {
  const url = figure.dataset.chart;
  const known = figure.dataset.drawn;
  const answer = await fetch(url, known && !whole ? { headers: { "If-None-Match": known } } : {});
  if (!answer.ok) return;
  const text = await answer.text();
  const version = answer.headers.get("ETag") ?? "";
  if (!whole && drawn.get(figure) === text) { figure.dataset.drawn = version; return; }
  const specification = JSON.parse(text); // the library draws with JavaScript's own numbers: figures, never seeds
  const room = figure.querySelector(".drawing").clientWidth;
  fit(specification, room);
  fitFirstScreen(specification, figure);
  views.get(figure)?.finalize();
  views.set(figure, await window.vegaEmbed(figure.querySelector(".drawing"), specification, options(room)));
  drawn.set(figure, text);
  figure.querySelector("canvas")?.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
  figure.querySelector("canvas")?.setAttribute("role", "img");
  figure.dataset.drawn = version;
}

function redraw(figure, whole) {
  if (busy.has(figure)) { waiting.add(figure); return; }
  busy.add(figure);
  draw(figure, whole || !figure.querySelector("canvas"))
    .catch((error) => { figure.querySelector(".drawing").textContent = `This chart could not be drawn: ${error.message}`; })
    .finally(() => { busy.delete(figure); if (waiting.delete(figure)) redraw(figure, whole); });
}

export function drawAll(whole = false) {
  for (const figure of document.querySelectorAll("figure[data-chart]")) redraw(figure, whole);
}

let resized = null;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => drawAll(true), 200); });
document.addEventListener("refreshed", () => drawAll());
dark.addEventListener("change", () => drawAll(true));
drawAll(true);
