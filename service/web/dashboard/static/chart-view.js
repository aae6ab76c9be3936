// One drawn chart: zoom and pan, the cursor, its series and its buttons.
import { finite } from "./chart-spec.js";

const STEP = 0.7; // of the range, with each zoom
const NUDGE = 0.1; // of the plot, with each pan
const SVG = "http://www.w3.org/2000/svg";
const SYMBOLS = { circle: "M5,0A5,5,0,1,1,-5,0A5,5,0,1,1,5,0Z", square: "M-4,-4H4V4H-4Z", "triangle-up": "M0,-5L5,4H-5Z", diamond: "M0,-6L5,0L0,6L-5,0Z", cross: "M-5,-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z" };

export class ChartView {
  constructor(figure, view, spec, state, moved) {
    Object.assign(this, { figure, view, spec, state, moved });
    this.canvas = figure.querySelector(".drawing canvas");
    this.panels = panelsOf(view, spec.document.facet !== undefined);
    this.places = [...new Set(spec.points.map((row) => row[spec.axes.x?.field]))].sort((a, b) => a - b);
    this.lines = [];
    this.#listen();
  }

  get canZoom() { return Boolean(this.spec.axes.x || this.spec.axes.y); }

  get isZoomed() { return Object.values(this.state.range).some(Boolean); }

  // Zoom around a place, as shares of the plot's width and height.
  zoom(factor, at = { x: 0.5, y: 0.5 }) {
    this.#change((channel, scale, [first, last]) => {
      const place = first + (last - first) * (channel === "x" ? at.x : 1 - at.y);
      return [place + (first - place) * factor, place + (last - place) * factor];
    });
  }

  // Move the content by so many pixels.
  pan(right, down) {
    this.#change((channel, scale, range) => range.map((one) => one - (channel === "x" ? right : down)));
  }

  reset() {
    for (const channel of ["x", "y"]) this.#set(channel, null);
    this.view.runAsync();
    this.tell();
  }

  #change(pixels) {
    for (const channel of ["x", "y"]) {
      if (!this.spec.axes[channel]) continue;
      const scale = this.view.scale(channel);
      const domain = pixels(channel, scale, scale.range()).map((place) => scale.invert(place));
      if (domain.every(Number.isFinite) && domain[0] < domain[1]) this.#set(channel, domain);
    }
    this.view.runAsync();
    this.tell();
  }

  #set(channel, domain) {
    if (!this.spec.axes[channel]) return;
    this.state.range[channel] = domain;
    this.view.signal(`range_${channel}`, domain);
  }

  hide(number, field, value, hidden) {
    const found = this.state.hidden[field] ??= new Set();
    if (hidden) found.add(value); else found.delete(value);
    this.view.signal(`hidden_${number}`, [...found]).runAsync();
    if (this.at !== undefined) this.point(this.at);
  }

  // Show the cursor at a value of the x axis, and what is there.
  point(value) {
    this.at = value;
    const nearest = this.nearest(value);
    const scale = nearest === undefined ? null : this.view.scale("x");
    const place = scale?.(nearest);
    const [first, last] = scale?.range() ?? [];
    const inside = place >= first - 0.5 && place <= last + 0.5;
    this.#draw(inside ? place : undefined);
    this.readout(inside ? this.#said(nearest) : "");
  }

  clear() {
    this.at = undefined;
    this.#draw(undefined);
    this.tell();
  }

  nearest(value) {
    let best;
    for (const place of this.places) if (best === undefined || Math.abs(place - value) < Math.abs(best - value)) best = place;
    return best;
  }

  // Go to the next measured place in a direction; where there is no cursor yet, to the first or the last.
  step(by) {
    const [first, last] = this.#shown();
    const places = this.places.filter((place) => place >= first && place <= last);
    if (!places.length) return;
    const now = this.at === undefined ? -1 : places.indexOf(this.nearest(this.at));
    const next = now < 0 ? (by > 0 ? 0 : places.length - 1) : Math.max(0, Math.min(places.length - 1, now + by));
    this.moved(this, places[next]);
  }

  #shown() {
    const scale = this.view.scale("x");
    return scale.range().map((place) => scale.invert(place)).sort((a, b) => a - b);
  }

  #draw(place) {
    const box = this.canvas.parentElement;
    const panels = place === undefined ? [] : this.panels;
    while (this.lines.length > panels.length) this.lines.pop().remove();
    panels.forEach((panel, number) => {
      const line = this.lines[number] ??= box.appendChild(Object.assign(document.createElement("div"), { className: "cursor" }));
      line.style.transform = `translate(${this.canvas.offsetLeft + panel.x + place}px, ${this.canvas.offsetTop + panel.y}px)`;
      line.style.height = `${panel.height}px`;
    });
  }

  // The values at a place, series by series.
  #said(place) {
    const { x, y } = this.spec.axes;
    const names = this.spec.series.map((series) => series.field).filter((field) => field !== "act");
    const shown = this.spec.points.filter((row) => row[x.field] === place && this.spec.series.every(({ field }) => !this.state.hidden[field]?.has(row[field])));
    const values = shown.map((row) => [...(this.panels.length > 1 && row.panel ? [row.panel.replaceAll("|", " ")] : []), ...names.map((field) => row[field]).filter(Boolean), short(row[y.field])].join(" "));
    return [`${x.title === "epoch" ? "epoch" : x.title} ${short(place)}`, ...new Set(values)].join(" · ");
  }

  readout(text) {
    const output = this.figure.querySelector(".readout");
    if (output.textContent !== text) Object.assign(output, { textContent: text, title: text });
  }

  // What the line below the chart says while there is no cursor.
  tell() {
    if (this.at !== undefined) { this.point(this.at); return; }
    this.readout(this.isZoomed ? "zoomed: double click or 0 shows all" : "");
  }

  #share(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const panel = this.panels.find((one) => x >= one.x && x <= one.x + one.width && y >= one.y && y <= one.y + one.height);
    return panel && { x: (x - panel.x) / panel.width, y: (y - panel.y) / panel.height, place: x - panel.x };
  }

  #listen() {
    const canvas = this.canvas;
    let grip = null;
    let asked = 0;
    canvas.addEventListener("pointermove", (event) => {
      if (grip) { this.pan(event.clientX - grip.x, event.clientY - grip.y); grip = { x: event.clientX, y: event.clientY }; return; }
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(() => this.#follow(event));
    });
    canvas.addEventListener("click", (event) => this.#follow(event)); // a tap
    canvas.addEventListener("pointerleave", () => { cancelAnimationFrame(asked); this.moved(this, undefined); });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || event.pointerType !== "mouse" || !this.canZoom || !this.#share(event)) return;
      grip = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
    });
    for (const ended of ["pointerup", "pointercancel"]) canvas.addEventListener(ended, () => { grip = null; });
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("wheel", (event) => {
      const at = this.#share(event);
      if (!at || !this.canZoom || !(event.ctrlKey || event.metaKey || document.fullscreenElement === this.figure)) return; // the page scrolls
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? STEP : 1 / STEP, at);
    }, { passive: false });
  }

  #follow(event) {
    const at = this.spec.axes.x && this.spec.axes.y && this.#share(event);
    this.moved(this, at ? this.view.scale("x").invert(at.place) : undefined);
  }

  // Keys of the figure itself; whether one was meant.
  key(event) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (arrow && event.shiftKey && this.canZoom) this.pan(-arrow[0] * NUDGE * this.panels[0].width, -arrow[1] * NUDGE * this.panels[0].height);
    else if (arrow?.[0] && this.spec.axes.x) this.step(arrow[0]);
    else if (["+", "="].includes(event.key) && this.canZoom) this.zoom(STEP);
    else if (event.key === "-" && this.canZoom) this.zoom(1 / STEP);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape" && this.at !== undefined) this.moved(this, undefined);
    else return false;
    return true;
  }
}

// Where the plots of a chart are on its canvas.
function panelsOf(view, faceted) {
  const [left, top] = view.origin();
  if (!faceted) return [{ x: left, y: top, width: view.width(), height: view.height() }];
  const found = [];
  const walk = (group, x, y) => {
    for (const mark of group.items ?? []) {
      if (mark.marktype !== "group") continue;
      for (const item of mark.items) {
        const place = [x + (item.x ?? 0), y + (item.y ?? 0)];
        if (mark.name === "cell") found.push({ x: place[0], y: place[1], width: item.width, height: item.height });
        else walk(item, ...place);
      }
    }
  };
  walk(view.scenegraph().root.items[0], left, top);
  return found;
}

function short(value) {
  if (!finite(value)) return "";
  return Number.isInteger(value) && Math.abs(value) < 1e6 ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));
}

// A series' colour, dash and shape beside its name.
export function swatch(look) {
  const picture = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: "-12 -7 24 14", width: 24, height: 14, "aria-hidden": "true" })) picture.setAttribute(name, value);
  const colour = look.color ?? look.fill ?? "currentColor";
  const dash = look.strokeDash?.[1] ? look.strokeDash.join(" ") : "none";
  if (look.fill === undefined && (look.strokeDash || !look.shape)) picture.append(drawn("path", { d: "M-12,0H12", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash, fill: "none" }));
  if (look.shape || look.fill) picture.append(drawn("path", { d: SYMBOLS[look.shape ?? "square"] ?? SYMBOLS.circle, fill: colour }));
  return picture;
}

function drawn(name, attributes) {
  const shape = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) shape.setAttribute(attribute, value);
  return shape;
}
