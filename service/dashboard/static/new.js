// The form of a spec, made from the catalogue's JSON Schema, with the same spec as YAML; checked by the service at every change.
import { say, send } from "/static/live.js";

const form = document.getElementById("new");
const fields = document.getElementById("form");
const text = form.elements.yaml;
const cost = document.getElementById("cost");
const list = document.getElementById("errors");
const submit = form.querySelector(".submit button");
let schema = null;
let spec = JSON.parse(form.dataset.start);
let editsText = false;
let counter = 0;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function resolved(node) {
  if (!node.$ref) return node;
  const target = schema.$defs[node.$ref.split("/").pop()];
  return { ...target, ...node, $ref: undefined };
}

function choices(node) {
  const variants = node.oneOf || (node.discriminator && node.anyOf);
  if (!variants || !node.discriminator) return null;
  const found = {};
  for (const variant of variants) {
    const whole = resolved(variant);
    const property = whole.properties[node.discriminator.propertyName];
    found[property.const ?? property.default] = whole;
  }
  return found;
}

function scalars(node) {
  const items = resolved(node.items || {});
  return items.enum || ["integer", "number", "string"].includes(items.type) ? items : null;
}

function initial(node) {
  const whole = resolved(node);
  if (whole.default !== undefined) return structuredClone(whole.default);
  const variants = choices(whole);
  if (variants) return { [whole.discriminator.propertyName]: Object.keys(variants)[0] };
  return whole.type === "object" ? {} : null;
}

function labelled(name, node, pointer, control) {
  const id = `field-${counter += 1}`;
  control.id = id;
  control.dataset.pointer = pointer;
  const help = node.description ? element("small", { id: `${id}-help` }, node.description) : null;
  if (help) control.setAttribute("aria-describedby", help.id);
  return element("div", { class: control.type === "checkbox" ? "field check" : "field" }, element("label", { for: id }, name), control, help);
}

function number(node, value, change) {
  const whole = node.type === "integer";
  const control = element("input", { type: "number", step: whole ? "1" : "any", min: node.minimum, max: node.maximum, value: value ?? undefined });
  control.addEventListener("input", () => change(control.value === "" ? null : Number(control.value)));
  return control;
}

function selection(values, value, change) {
  const control = element("select", {}, ...values.map((one) => element("option", { selected: one === value }, String(one))));
  control.addEventListener("change", () => change(values[control.selectedIndex]));
  return control;
}

function several(items, value, change) {
  const control = element("input", { value: (value || []).join(", ") });
  const numeric = ["integer", "number"].includes(items.type) || (items.enum && typeof items.enum[0] === "number");
  control.addEventListener("input", () => {
    const parts = control.value.split(",").map((part) => part.trim()).filter(Boolean);
    change(parts.map((part) => (numeric && part !== "" && !Number.isNaN(Number(part)) ? Number(part) : part)));
  });
  return control;
}

function document_(value, change) {
  const control = element("textarea", { rows: 4, spellcheck: "false" }, JSON.stringify(value ?? {}, null, 1));
  control.addEventListener("input", () => { try { change(JSON.parse(control.value)); control.setCustomValidity(""); } catch { control.setCustomValidity("not valid JSON"); } });
  return control;
}

// The dotted fields of the spec that a study varies, as the form shows it.
function dotted(node, value, prefix = "") {
  const whole = resolved(node);
  const variants = choices(whole);
  const shape = variants ? variants[value?.[whole.discriminator.propertyName]] || Object.values(variants)[0] : whole;
  if (!shape.properties) return [prefix];
  const inside = Object.entries(shape.properties).filter(([, one]) => resolved(one).const === undefined).flatMap(([name, one]) => dotted(one, value?.[name], prefix ? `${prefix}.${name}` : name));
  return variants && prefix ? [`${prefix}.${whole.discriminator.propertyName}`, ...inside] : inside;
}

function valuesOf(written) {
  try { return JSON.parse(`[${written}]`); } catch { return written.split(",").map((part) => part.trim()).filter(Boolean); }
}

// An object of lists, a line for each: the field that varies, and its values.
function grid(value, change) {
  const lines = element("div", { class: "grid" });
  const known = `list-${counter += 1}`;
  const told = () => change(Object.fromEntries([...lines.querySelectorAll(".line")].map((line) => [...line.querySelectorAll("input")].map((one) => one.value)).filter(([name]) => name).map(([name, written]) => [name, valuesOf(written)])));
  const add = (name, values) => {
    const remove = element("button", { type: "button", "aria-label": `Leave out ${name || "this field"}` }, "×");
    const field_ = element("input", { value: name, list: known, placeholder: "network.widths", "aria-label": "field that varies" });
    const written = values.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join(", ");
    const line = element("div", { class: "line" }, field_, element("input", { value: written, placeholder: "[64], [256]", "aria-label": `values of ${name || "the field"}` }), remove);
    line.addEventListener("input", told);
    remove.addEventListener("click", () => { line.remove(); told(); });
    lines.insertBefore(line, more);
    return field_;
  };
  const more = element("button", { type: "button" }, "Vary a field");
  more.addEventListener("click", () => add("", []).focus());
  lines.append(more, element("datalist", { id: known }, ...dotted(choices(schema).study.properties.base, spec.base).map((name) => element("option", { value: name }))));
  for (const [name, values] of Object.entries(value || {})) add(name, values);
  return lines;
}

// A word, or an object with fields of its own.
function wordOrObject(name, node, words, shape, owner, pointer) {
  const isObject = owner[name] !== null && typeof owner[name] === "object";
  const title = shape.description?.split("\n")[0] || shape.title;
  const names = [...words, title];
  const picker = selection(names, isObject ? title : owner[name] ?? node.default, (fresh) => { owner[name] = fresh === title ? {} : fresh; render(); changed(); });
  const line = labelled(name, node, pointer, picker);
  return isObject ? element("fieldset", {}, element("legend", {}, name), line, ...properties(shape, owner[name], pointer, null)) : line;
}

function alternatives(node) {
  return (node.anyOf || []).map(resolved).filter((variant) => variant.type !== "null");
}

function control(node, value, change) {
  if (node.enum) return selection(node.enum, value ?? node.default, change);
  if (node.type === "boolean") {
    const box = element("input", { type: "checkbox" });
    box.checked = Boolean(value);
    box.addEventListener("change", () => change(box.checked));
    return box;
  }
  if (["integer", "number"].includes(node.type)) return number(node, value, change);
  if (node.type === "object" && resolved(node.additionalProperties || {}).type === "array") return grid(value, change);
  if (node.type === "array" && scalars(node)) return several(scalars(node), value, change);
  const others = alternatives(node);
  const listed = others.find((variant) => variant.enum);
  if (others.length === 1) return control({ ...others[0], default: node.default }, value, change);
  if (node.type === "string" || listed) {
    const box = element("input", { value: typeof value === "string" ? value : undefined, list: listed ? `list-${counter}` : undefined });
    box.addEventListener("input", () => change(box.value));
    if (listed) fields.append(element("datalist", { id: `list-${counter}` }, ...listed.enum.map((one) => element("option", { value: one }))));
    return box;
  }
  return document_(value, change);
}

function field(name, node, owner, pointer) {
  const whole = resolved(node);
  const value = owner[name] === undefined ? initial(node) : owner[name];
  const variants = choices(whole);
  if (variants) return variantField(name, whole, variants, owner, value, pointer);
  if (whole.type === "object" && whole.properties) {
    if (owner[name] === undefined) owner[name] = {};
    return element("fieldset", {}, element("legend", {}, name), ...properties(whole, owner[name], pointer, null));
  }
  const [word, shape] = alternatives(whole);
  if (word?.const !== undefined && shape?.properties) return wordOrObject(name, whole, [word.const], shape, owner, pointer);
  return labelled(name, whole, pointer, control(whole, value, (fresh) => { owner[name] = fresh; changed(); }));
}

function variantField(name, node, variants, owner, value, pointer) {
  const key = node.discriminator.propertyName;
  const chosen = value[key] in variants ? value[key] : Object.keys(variants)[0];
  owner[name] = { ...value, [key]: chosen };
  const picker = selection(Object.keys(variants), chosen, (fresh) => { owner[name] = { [key]: fresh }; render(); changed(); });
  const meaning = (variants[chosen].description || "").split("\n\n")[0];
  return element("fieldset", {}, element("legend", {}, name), labelled(key, { description: meaning }, `${pointer}/${key}`, picker), ...properties(variants[chosen], owner[name], pointer, key));
}

function properties(node, owner, pointer, key) {
  const shown = Object.entries(node.properties).filter(([name, one]) => name !== key && resolved(one).const === undefined);
  const isSpec = ([, one]) => Number(resolved(one).discriminator?.propertyName === "kind"); // what a study varies stands above its long base
  return shown.sort((one, other) => isSpec(one) - isSpec(other)).map(([name, one]) => field(name, one, owner, `${pointer}/${name}`));
}

function render() {
  const kinds = choices(schema);
  if (!(spec.kind in kinds)) spec.kind = Object.keys(kinds)[0];
  const holder = { get spec() { return spec; }, set spec(fresh) { spec = fresh; } };
  fields.replaceChildren();
  fields.append(variantField("spec", schema, kinds, holder, spec, "/spec"));
}

function same(left, right) {
  return JSON.stringify(left) === JSON.stringify(right);
}

function pruned(value, node) {
  const whole = resolved(node);
  const variants = choices(whole);
  const shape = variants ? variants[value?.[whole.discriminator.propertyName]] : whole;
  if (!shape?.properties || value === null || typeof value !== "object") return value;
  const kept = {};
  for (const [name, one] of Object.entries(value)) {
    const property = shape.properties[name];
    const part = property ? pruned(one, property) : one;
    const fallback = property && resolved(property).default;
    const isKey = variants && name === whole.discriminator.propertyName;
    const optional = fallback === undefined || (fallback !== null && typeof fallback === "object");
    const empty = optional && part !== null && typeof part === "object" && !Array.isArray(part) && Object.keys(part).length === 0;
    if (isKey || !(empty || (property && (same(part, fallback) || same(one, fallback) || (fallback && same(part, pruned(fallback, property))))))) kept[name] = part;
  }
  return kept;
}

function request() {
  const tags = form.elements.tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
  return { spec: pruned(spec, schema), name: form.elements.name.value || null, tags, priority: form.elements.priority.value, fresh: form.elements.fresh.checked };
}

function showErrors(errors) {
  for (const old of fields.querySelectorAll(".wrong")) old.remove();
  for (const old of fields.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
  list.hidden = errors.length === 0;
  list.replaceChildren(...errors.map((error) => element("li", {}, `${error.pointer.replace(/^\/spec\/?/, "") || "spec"}: ${error.message}`)));
  for (const error of errors) {
    const control = [...fields.querySelectorAll("[data-pointer]")].filter((one) => error.pointer === one.dataset.pointer || error.pointer.startsWith(`${one.dataset.pointer}/`)).pop();
    control?.setAttribute("aria-invalid", "true");
    control?.after(element("small", { class: "wrong" }, error.message));
  }
}

function words(found) {
  const seconds = found.seconds.cpu;
  const time = seconds < 90 ? `${Math.ceil(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  return `${found.runs} ${found.runs === 1 ? "run" : "runs"}, about ${time} on a CPU, ${(found.peak_memory_bytes / 2 ** 20).toFixed(0)} MiB at most, ${found.flops.toExponential(1)} operations`;
}

let asked = new AbortController();

async function check() {
  asked.abort(); // an answer to what has changed meanwhile would be wrong
  asked = new AbortController();
  let answer;
  let found;
  try {
    answer = await fetch("/v1/estimate", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request()), signal: asked.signal });
    found = await answer.json();
  } catch (error) {
    if (error.name !== "AbortError") cost.textContent = "The service does not answer.";
    return;
  }
  cost.textContent = answer.ok ? words(found) : "";
  if (answer.ok) showErrors(found.problems.map((message) => ({ pointer: "", message })));
  else showErrors(found.errors?.length ? found.errors : [{ pointer: "", message: found.detail }]);
  submit.disabled = !answer.ok || found.problems?.length > 0;
}

let timer = null;
function changed() {
  clearTimeout(timer);
  timer = setTimeout(check, 250);
}

async function showText() {
  const answer = await fetch("/spec.yaml", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(pruned(spec, schema)) });
  if (answer.ok) text.value = await answer.text();
}

async function readText() {
  const answer = await fetch("/spec.json", { method: "POST", headers: { "Content-Type": "application/yaml" }, body: text.value });
  const found = await answer.json();
  if (!answer.ok) { cost.textContent = ""; showErrors([{ pointer: "", message: found.detail }]); submit.disabled = true; return false; }
  spec = found;
  render();
  changed();
  return true;
}

function show(yaml) {
  editsText = yaml;
  for (const [name, on] of [["form", !yaml], ["yaml", yaml]]) {
    document.getElementById(name).hidden = !on;
    document.getElementById(`tab-${name}`).setAttribute("aria-selected", String(on));
  }
}

document.getElementById("tab-form").addEventListener("click", async () => { if (!editsText || (await readText())) show(false); });
document.getElementById("tab-yaml").addEventListener("click", async () => { await showText(); show(true); });
let typed = null;
text.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(readText, 400); });
form.elements.preset.addEventListener("change", () => { location.href = form.elements.preset.value ? `/new?preset=${form.elements.preset.value}` : "/new"; });
form.addEventListener("change", changed);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (editsText && !(await readText())) return;
  submit.disabled = true;
  const job = await send("POST", "/v1/jobs", request());
  submit.disabled = false;
  if (job) location.href = `/jobs/${job.id}`;
});

const catalog = await fetch("/v1/catalog");
if (catalog.ok) {
  const entries = await catalog.json();
  schema = entries.spec_schema;
  schema.$defs.DatasetSpec.properties.name.anyOf[0].enum = entries.datasets.map((one) => one.name); // with what was uploaded
  render();
  check();
} else {
  say("The catalogue could not be read. Reload the page in a moment.");
}
