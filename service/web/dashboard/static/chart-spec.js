// What a chart's specification says, and what the page changes of it before it is drawn: series that can be hidden, axes
// that can be logarithmic or zoomed, epoch or flow time. The specification itself is the server's own, as in the pictures.

const MARKS = ["color", "fill", "strokeDash", "shape"]; // channels whose legends become buttons
const CHANNELS = ["x", "y"];
const FLOW_TIME = "flow time τ";

// The plots of a specification: its layers, also those within layers.
function layersOf(part) {
  return part.layer ? part.layer.flatMap(layersOf) : part.encoding ? [part] : [];
}

export class ChartSpec {
  constructor(document) {
    this.document = document;
    this.unit = document.facet ? document.spec : document;
    this.layers = layersOf(this.unit);
    this.rows = Object.values(document.datasets ?? {}).flat();
    this.axes = { x: this.#axis("x"), y: this.#axis("y") };
    this.series = this.#series();
    this.points = this.rows.filter((row) => this.axes.x && this.axes.y && finite(row[this.axes.x.field]) && finite(row[this.axes.y.field]));
  }

  // The quantitative axis of a direction; null where a chart has names there, or panels of their own scales.
  #axis(channel) {
    if (this.document.resolve?.scale?.[channel] === "independent") return null;
    const found = this.layers.map((layer) => layer.encoding[channel]).filter((one) => one?.type === "quantitative" && one.field && one.axis !== null);
    const main = found.find((one) => one.field === "mean" || one.field === "epoch" || one.field === "tau") ?? found[0];
    if (!main) return null;
    return { channel, field: main.field, title: main.title ?? main.field, isLog: found.some((one) => one.scale?.type === "log"), kind: found.find((one) => one.scale?.type)?.scale.type ?? "linear" };
  }

  // The fields whose values have a colour, a dash or a shape, each with the look of its values.
  #series() {
    const fields = new Map();
    for (const layer of this.layers) for (const channel of MARKS) {
      const encoding = layer.encoding[channel];
      if (!encoding?.field || encoding.type !== "nominal" || encoding.legend === null || !Array.isArray(encoding.scale?.domain) || !Array.isArray(encoding.scale?.range)) continue;
      const values = encoding.legend?.values ?? encoding.scale.domain;
      const field = fields.get(encoding.field) ?? { field: encoding.field, looks: new Map(values.map((value) => [value, {}])) };
      fields.set(encoding.field, field);
      for (const [value, look] of field.looks) {
        const at = encoding.scale.domain.indexOf(value);
        if (at >= 0) look[channel === "fill" ? "fill" : channel] = encoding.scale.range[at % encoding.scale.range.length];
      }
    }
    return [...fields.values()];
  }

  get hasTime() { return ["epoch", "tau"].includes(this.axes.x?.field); }

  // Whether each drawn row has a flow time, so that epochs can give way to it.
  get hasFlowTime() { return this.axes.x?.field === "epoch" && this.points.length > 0 && this.points.every((row) => finite(row.tau)); }

  // Why an axis cannot be logarithmic; "" where it can.
  whyNotLog(channel) {
    const axis = this.axes[channel];
    const lowest = Math.min(...this.points.map((row) => row[axis.field]));
    if (this.points.length === 0) return "there are no values yet";
    if (lowest > 0) return "";
    return axis.field === "epoch" ? "epoch 0 has no logarithm" : axis.field === "tau" ? "flow time begins at 0, which has no logarithm" : "some values are 0 or below, which have no logarithm";
  }

  // Draw over flow time what is drawn over epochs.
  useFlowTime() {
    for (const layer of this.layers) {
      const x = layer.encoding.x;
      if (x?.field === "epoch") Object.assign(x, { field: "tau", title: FLOW_TIME, axis: { grid: false, labelOverlap: true, labelFlush: false } });
    }
    Object.assign(this.axes.x, { field: "tau", title: FLOW_TIME });
  }

  // Make an axis logarithmic, or no longer so.
  setLog(channel, wanted) {
    const axis = this.axes[channel];
    if (wanted === axis.isLog) return;
    for (const encoding of this.#encodings(channel)) {
      const { domain, zero, ...others } = encoding.scale ?? {}; // a logarithm has no zero
      encoding.scale = { ...others, type: wanted ? "log" : "linear", nice: false, ...(!wanted && { zero: false }) };
    }
    if (wanted) this.#raise(Math.min(...this.points.map((row) => row[axis.field])));
    axis.isLog = wanted;
  }

  // Bands that reach 0 or below end a little below the lowest value: a logarithm has no place for the rest.
  #raise(lowest) {
    for (const row of this.rows) for (const field of ["low", "high", "least", "most", "value"]) if (finite(row[field]) && row[field] <= 0) row[field] = lowest / 2;
  }

  #encodings(channel) {
    return this.layers.map((layer) => layer.encoding[channel]).filter((one) => one?.type === "quantitative" && one.field && one.axis !== null);
  }

  // Let signals zoom the axes and hide series; all are as the page has them.
  connect(state) {
    this.document.params = [...(this.document.params ?? [])];
    for (const channel of CHANNELS) {
      if (!this.axes[channel]) continue;
      this.document.params.push({ name: `range_${channel}`, value: state.range[channel] ?? null });
      for (const encoding of this.#encodings(channel)) encoding.scale = { ...encoding.scale, domainRaw: { expr: `range_${channel}` } };
    }
    if (this.axes.x || this.axes.y) for (const layer of this.layers) this.#clip(layer);
    this.series.forEach((series, number) => {
      this.document.params.push({ name: `hidden_${number}`, value: [...(state.hidden[series.field] ?? [])] });
      for (const layer of this.layers) this.#connectSeries(layer, series.field, number);
    });
  }

  // What a zoom moves out of the plot is not drawn beside it; words beside the plot are. Without a zoom nothing is clipped:
  // a marker at the edge is drawn whole.
  #clip(layer) {
    const mark = typeof layer.mark === "string" ? { type: layer.mark } : layer.mark;
    const zoomed = CHANNELS.filter((channel) => this.axes[channel]).map((channel) => `isValid(range_${channel})`).join(" || ");
    if (["line", "area", "point", "rule", "bar"].includes(mark.type)) layer.mark = { ...mark, clip: { expr: zoomed } };
  }

  #connectSeries(layer, field, number) {
    const used = Object.values(layer.encoding).some((one) => one?.field === field);
    if (!used) return;
    layer.transform = [{ filter: `indexof(hidden_${number}, datum[${JSON.stringify(field)}]) < 0` }, ...(layer.transform ?? [])];
    for (const channel of MARKS) if (layer.encoding[channel]?.field === field) layer.encoding[channel].legend = null;
  }
}

export function finite(value) {
  return typeof value === "number" && Number.isFinite(value);
}
