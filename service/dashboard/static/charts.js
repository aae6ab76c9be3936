// Draws the charts of a page from the server's own specifications, anew whenever the page has been refreshed.
await import(document.querySelector("link[rel=modulepreload]").href);

const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();

function options() {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const config = { background: null, title: { color: ink }, axis: { labelColor: ink, titleColor: ink }, legend: { labelColor: ink, titleColor: ink }, header: { labelColor: ink } };
  return { actions: false, ast: true, defaultStyle: false, renderer: "canvas", tooltip: { disableDefaultStyle: true }, config };
}

function fit(specification, room) {
  if (specification.facet) {
    specification.columns = room < 480 ? 1 : 2;
    specification.spec.width = Math.max(160, Math.floor((room - 110) / specification.columns) - 20);
  } else {
    specification.width = Math.max(200, Math.min(520, room - 110));
  }
}

async function draw(figure, whole) {
  const url = figure.dataset.chart;
  const known = drawn.get(url);
  const answer = await fetch(url, known && !whole ? { headers: { "If-None-Match": known } } : {});
  if (!answer.ok) return;
  const specification = await answer.json();
  fit(specification, figure.clientWidth);
  await window.vegaEmbed(figure.querySelector(".drawing"), specification, options());
  const text = figure.querySelector("figcaption").textContent;
  figure.querySelector("canvas")?.setAttribute("aria-label", text);
  figure.querySelector("canvas")?.setAttribute("role", "img");
  drawn.set(url, answer.headers.get("ETag"));
}

export function drawAll(whole = false) {
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    draw(figure, whole || !figure.querySelector("canvas")).catch((error) => { figure.querySelector(".drawing").textContent = `This chart could not be drawn: ${error.message}`; });
  }
}

let resized = null;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => drawAll(true), 200); });
document.addEventListener("refreshed", () => drawAll());
dark.addEventListener("change", () => drawAll(true));
drawAll(true);
