// The form of a spec, made from the catalogue's JSON Schema, with the same spec as YAML; checked by the service at every change.
// `spec` is complete: what the form shows is what is sent.
import { bare, clone, isObject, parse, same, stringify, typed } from "./exact.js";
import { root as base, say, send, wrong } from "./live.js";
import { bytesInWords, duration } from "./words.js";

const form = document.getElementById("new");
const fields = document.getElementById("form");
const text = form.elements.yaml;
const cost = document.getElementById("cost");
const list = document.getElementById("errors");
const advised = document.getElementById("advice");
const onset = document.getElementById("onset");
const review = document.getElementById("review"); // what differs, what is expected, advice: beside the form, or folded where it is narrow
const beside = matchMedia("(min-width: 70rem)");
const submit = form.querySelector(".submit button");
const difference = document.getElementById("difference");
const start = parse(form.dataset.start); // the spec to begin with, what it is called, the defaults of every kind, the tags
let schema = null;
let spec = clone(start.spec);
let editsText = false;
let shownText = null; // the YAML that says the same as `spec`
const linesOf = new WeakMap(); // a grid of `spec` -> its lines as they were typed, which may say what no grid can
const OPEN_PARTS = 2; // the most parts of a study that are shown unfolded: each is as long as the form of a run
const unfolded = new Map(); // the pointer of a part -> whether somebody has unfolded or folded it
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
  if (whole.default !== undefined) return clone(whole.default);
  const variants = choices(whole);
  if (variants) return { [whole.discriminator.propertyName]: Object.keys(variants)[0] };
  return whole.type === "object" ? {} : null;
}

function labelled(name, node, pointer, control) {
  const id = `field-${counter += 1}`;
  control.id = id;
  control.dataset.pointer = pointer;
  const help = node.description ? element("small", { id: `${id}-help` }, node.description.replaceAll("null:", "empty:")) : null; // a box is left empty for null
  if (help) control.setAttribute("aria-describedby", help.id);
  return element("div", { class: control.type === "checkbox" ? "field check" : "field" }, element("label", { for: id }, name), control, help);
}

function number(node, value, change) {
  const control = element("input", { inputmode: node.type === "integer" ? "numeric" : "decimal", autocomplete: "off", value: value ?? "", placeholder: node.nullable ? "empty" : undefined });
  control.addEventListener("input", () => change(node.nullable && control.value.trim() === "" ? null : typed(control.value)));
  return control;
}

function selection(values, value, change) {
  const offered = value === undefined || values.includes(value) ? values : [value, ...values];
  const control = element("select", {}, ...offered.map((one) => element("option", { selected: one === value }, String(one))));
  control.addEventListener("change", () => change(offered[control.selectedIndex]));
  return control;
}

function several(value, change) {
  const control = element("input", { value: Array.isArray(value) ? value.join(", ") : String(value ?? ""), autocomplete: "off" });
  control.addEventListener("input", () => change(control.value.trim() === "" ? [] : control.value.split(",").map(typed)));
  return control;
}

function document_(value, change) {
  const control = element("textarea", { rows: 4, spellcheck: "false" }, stringify(value ?? null));
  control.addEventListener("input", () => { try { change(parse(control.value)); } catch { change(control.value); } });
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
  try { return parse(`[${written}]`); } catch { return written.split(",").map(typed).filter((one) => one !== ""); }
}

// The values as they are typed; what reads back as something else is written as JSON.
function typedValues(values) {
  const bare = values.map((one) => (typeof one === "string" ? one : stringify(one))).join(", ");
  return same(valuesOf(bare), values) ? bare : values.map(stringify).join(", ");
}

// What is wrong with the lines of a grid, line by line: an object has each field once.
function gridErrors(lines) {
  const names = lines.map(([name]) => name);
  return lines.map(([name, written], place) => {
    if (name && names.indexOf(name) < place) return `${name} varies in two lines: write all its values in one`;
    return !name && written ? "these values have no field: choose one, or leave the line out" : null;
  });
}

// An object of lists, a line for each: the field that varies, and its values.
function grid(value, base, change) {
  const lines = element("div", { class: "grid" });
  const known = `list-${counter += 1}`;
  const typedLines = () => [...lines.querySelectorAll(".line")].map((line) => [...line.querySelectorAll("input")].map((one) => one.value.trim()));
  const onChange = () => {
    const fresh = Object.fromEntries(typedLines().filter(([name]) => name).map(([name, written]) => [name, valuesOf(written)]));
    linesOf.set(fresh, typedLines());
    change(fresh);
  };
  const add = (name, written) => {
    const remove = element("button", { type: "button", "aria-label": `Leave out ${name || "this field"}` }, "×");
    const field_ = element("input", { value: name, list: known, placeholder: "network.widths", "aria-label": "field that varies" });
    const line = element("div", { class: "line" }, field_, element("input", { value: written, placeholder: "[64], [256]", "aria-label": `values of ${name || "the field"}` }), remove);
    line.addEventListener("input", onChange);
    remove.addEventListener("click", () => { line.remove(); onChange(); });
    lines.insertBefore(line, more);
    return field_;
  };
  const more = element("button", { type: "button" }, "Vary a field");
  more.addEventListener("click", () => add("", "").focus());
  lines.append(more, element("datalist", { id: known }, ...dotted(schema.$defs.StudyPart.properties.base, base).map((name) => element("option", { value: name }))));
  for (const line of linesOf.get(value) ?? Object.entries(value || {}).map(([name, values]) => [name, typedValues(values)])) add(...line);
  return lines;
}

// A word, or an object with fields of its own; of several kinds of object, by the fields that only one must have.
function wordOrObject(name, node, words, shapes, owner, pointer) {
  const titled = Object.fromEntries(shapes.map((one) => [(one.title || name).replaceAll(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase(), one])); // the description is longer than a box
  const held = owner[name];
  const shape = (isObject(held) && shapes.find((one) => (one.required || []).some((key) => key in held))) || shapes[0];
  const title = Object.keys(titled).find((one) => titled[one] === shape);
  const begun = (one) => (one === shapes[0] ? {} : { [one.required[0]]: "" });
  const picker = selection([...words, ...Object.keys(titled)], isObject(held) ? title : held, (fresh) => { owner[name] = titled[fresh] ? begun(titled[fresh]) : fresh; render(); changed(); });
  const line = labelled(name, node, pointer, picker);
  return isObject(owner[name]) ? element("fieldset", {}, element("legend", {}, name), line, ...properties(shape, owner[name], pointer, null)) : line;
}

// An object that may be left out: its fields, once somebody wants it.
function optional(name, node, shape, owner, pointer) {
  const picker = selection(["no", "yes"], isObject(owner[name]) ? "yes" : "no", (fresh) => { if (fresh === "yes") owner[name] = {}; else delete owner[name]; render(); changed(); });
  const line = labelled(name, node, pointer, picker);
  return isObject(owner[name]) ? element("fieldset", {}, element("legend", {}, name), line, ...properties(shape, owner[name], pointer, null)) : line;
}

// An entry of a catalogue: its name alone, or where it has parameters an object with them.
function nameOrEntry(name, node, entries, key, owner, pointer) {
  const chosen = isObject(owner[name]) ? owner[name][key] : owner[name];
  const hasParameters = (one) => Object.keys(entries[one]?.properties ?? {}).length > 1;
  if (isObject(owner[name]) && !hasParameters(chosen)) owner[name] = chosen;
  const picker = selection(Object.keys(entries), chosen, (fresh) => { owner[name] = hasParameters(fresh) ? { [key]: fresh } : fresh; render(); changed(); });
  const line = labelled(name, node, pointer, picker);
  return isObject(owner[name]) && hasParameters(chosen) ? element("fieldset", {}, element("legend", {}, name), line, ...properties(entries[chosen], owner[name], pointer, key)) : line;
}

function alternatives(node) {
  return (node.anyOf || []).map(resolved).filter((variant) => variant.type !== "null");
}

function control(node, value, change) {
  if (node.enum) return selection(node.enum, value, change);
  if (node.type === "boolean") {
    const box = element("input", { type: "checkbox" });
    box.checked = Boolean(value);
    box.addEventListener("change", () => change(box.checked));
    return box;
  }
  if (["integer", "number"].includes(node.type)) return number(node, value, change);
  if (node.type === "array" && scalars(node)) return several(value, change);
  const others = alternatives(node);
  const listed = others.find((variant) => variant.enum);
  if (others.length === 1) return control({ ...others[0], nullable: true }, value, change);
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
  const others = alternatives(whole);
  if (others.length === 1 && others[0].properties) return optional(name, whole, others[0], owner, pointer);
  if (owner[name] === undefined) owner[name] = initial(node);
  const value = owner[name];
  const variants = choices(whole);
  if (variants) return variantField(name, whole, variants, owner, value, pointer);
  if (whole.type === "object" && whole.properties) {
    return element("fieldset", {}, element("legend", {}, name), ...properties(whole, value, pointer, null));
  }
  if (name === "preset") return labelled(name, { description: "whose settings these were; what runs is below" }, pointer, element("input", { value, readonly: true }));
  if (name === "parts") return element("div", {}, ...Object.entries(value).map(([part, one]) => partField(part, one, `${pointer}/${bare(part).replaceAll("~", "~0").replaceAll("/", "~1")}`, Object.keys(value).length)));
  if (name === "grid") return labelled(name, whole, pointer, grid(value, owner.base, (fresh) => { owner[name] = fresh; changed(); }));
  const [word, shape, ...more] = others;
  if (word?.enum && shape && choices(shape)) return nameOrEntry(name, whole, choices(shape), shape.discriminator.propertyName, owner, pointer);
  if (word?.const !== undefined && shape?.properties) return wordOrObject(name, whole, [word.const], [shape, ...more], owner, pointer);
  return labelled(name, whole, pointer, control(whole, value, (fresh) => { owner[name] = fresh; changed(); }));
}

// A part of a study: folded where there are several, and as it was left where the form is made anew.
function partField(name, part, pointer, count) {
  const varied = element("small", {});
  const tell = () => {
    const names = Object.keys(part.grid ?? {});
    varied.textContent = [part.base?.kind, names.length && `varies ${names.map(bare).join(", ")}`].filter(Boolean).join(", ");
  };
  tell();
  const title = `part ${bare(name)}`;
  const group = element("fieldset", { "aria-label": title }, ...properties(schema.$defs.StudyPart, part, pointer, null));
  const fold = element("details", { "data-part": bare(name), open: unfolded.get(pointer) ?? count <= OPEN_PARTS }, element("summary", {}, `${title} `, varied), group);
  fold.addEventListener("toggle", () => unfolded.set(pointer, fold.open));
  for (const event of ["input", "change", "click"]) fold.addEventListener(event, tell);
  return fold;
}

function variantField(name, node, variants, owner, value, pointer) {
  const key = node.discriminator.propertyName;
  const chosen = value[key] in variants ? value[key] : Object.keys(variants)[0];
  value[key] = chosen;
  const begun = (fresh) => (owner === root ? clone(start.defaults[fresh]) : { [key]: fresh });
  const picker = selection(Object.keys(variants), chosen, (fresh) => { owner[name] = begun(fresh); render(); changed(); });
  const meaning = (variants[chosen].description || "").split("\n\n")[0];
  return element("fieldset", {}, element("legend", {}, name), labelled(key, { description: meaning }, `${pointer}/${key}`, picker), ...properties(variants[chosen], value, pointer, key));
}

// Of a study the fields that say what runs: its parts, or its base and what is varied of it. A check of trained weights has the widths of these, a network of layers has theirs.
function shownOf(owner) {
  const namesLayers = Array.isArray(owner.layers) && owner.layers.length > 0;
  if (namesLayers || (owner.kind === "check" && isObject(owner.at))) return (name) => name !== "widths";
  return owner.kind !== "study" ? () => true : isObject(owner.parts) ? (name) => name === "parts" || (name === "preset" && owner.preset) || (name === "search" && owner.search) : (name) => name === "base" || name === "grid" || name === "search";
}

function properties(node, owner, pointer, key) {
  const isShown = shownOf(owner);
  const shown = Object.entries(node.properties).filter(([name, one]) => name !== key && isShown(name) && resolved(one).const === undefined);
  const isSpec = ([, one]) => Number(resolved(one).discriminator?.propertyName === "kind"); // what a study varies stands above its long base
  for (const [name, one] of shown) if (owner[name] === undefined && name !== "search") owner[name] = initial(one);
  return shown.sort((one, other) => isSpec(one) - isSpec(other)).map(([name, one]) => field(name, one, owner, `${pointer}/${name}`));
}

const root = { get spec() { return spec; }, set spec(fresh) { spec = fresh; } };

function render() {
  fields.replaceChildren();
  fields.append(variantField("spec", schema, choices(schema), root, spec, "/spec"));
}

// What is not as in the spec that the form began with, or as in the defaults of another kind.

function shownValue(value) {
  if (value === undefined) return "–";
  if (Array.isArray(value)) return value.length ? value.map((one) => (Array.isArray(one) || isObject(one) ? stringify(one) : shownValue(one))).join(", ") : "none";
  if (isObject(value)) return Object.entries(value).map(([name, one]) => `${name} ${shownValue(one)}`).join(", ");
  return String(value);
}

function changes(before, after, prefix = "") {
  if (!isObject(before) || !isObject(after)) return same(before, after) ? [] : [{ field: prefix, before, after }];
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names.flatMap((name) => changes(before[name], after[name], prefix ? `${prefix}.${bare(name)}` : bare(name)));
}

function showDifference() {
  if (ownErrors().length) { difference.replaceChildren(); return; } // the spec is not what the form says
  const alike = spec.kind === start.spec.kind;
  const origin = alike ? start.title : `the defaults of a ${spec.kind}`;
  const found = changes(alike ? start.spec : start.defaults[spec.kind], spec);
  const lines = found.map((one) => element("li", {}, element("code", {}, one.field), `: ${shownValue(one.before)} → ${shownValue(one.after)}`));
  difference.replaceChildren(element("p", {}, found.length ? `Changed from ${origin}:` : `As ${origin}, unchanged.`), ...(found.length ? [element("ul", {}, ...lines)] : []));
  showReview();
}

function tagsOf(written) {
  return written === form.elements.tags.defaultValue ? start.tags : written.split(",").map((tag) => tag.trim()).filter(Boolean);
}

// What is asked of the worker; null where nothing is.
function needs() {
  const { need_device, need_memory, need_tags } = form.elements;
  const asked = {
    ...(need_device.value ? { device: need_device.value } : {}),
    ...(need_memory.value ? { memory_gb: Number(need_memory.value) } : {}),
    ...(need_tags.value.trim() ? { tags: need_tags.value.split(",").map((tag) => tag.trim()).filter(Boolean) } : {}),
  };
  return Object.keys(asked).length ? asked : null;
}

function request() {
  return stringify({ spec, name: form.elements.name.value || null, tags: tagsOf(form.elements.tags.value), project: form.elements.project.value.trim() || null, priority: form.elements.priority.value, needs: needs(), fresh: form.elements.fresh.checked });
}

// The Idempotency-Key of what is submitted: the same as long as that is the same, so that a second try makes no second job.
let submitted = {};
function keyFor(content) {
  if (submitted.content !== content) {
    const bytes = crypto.getRandomValues(new Uint8Array(16)); // unlike randomUUID, it is there without TLS
    submitted = { content, key: [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
  }
  return submitted.key;
}

// The field of an error as specs and messages name it: network.widths.
function fieldName(pointer) {
  return pointer.replace(/^\/spec\/?/, "").replaceAll("/", ".").replaceAll("~1", "/").replaceAll("~0", "~") || "spec";
}

function showErrors(errors) {
  for (const old of fields.querySelectorAll(".wrong")) old.remove();
  for (const old of fields.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
  list.hidden = errors.length === 0;
  list.replaceChildren(...errors.map((error) => element("li", {}, `${fieldName(error.pointer)}: ${error.message}`)));
  for (const error of errors) {
    const control = error.control ?? [...fields.querySelectorAll("[data-pointer]")].filter((one) => error.pointer === one.dataset.pointer || error.pointer.startsWith(`${one.dataset.pointer}/`)).pop();
    control?.setAttribute("aria-invalid", "true");
    control?.after(element("small", { class: "wrong" }, error.message));
    const part = control?.closest("[data-part]");
    if (part) part.open = true;
  }
}

function words(found) {
  const [seconds, memory, flops] = [found.seconds.cpu, found.peak_memory_bytes, found.flops].map(Number);
  const taken = (one) => duration(Math.max(1, one));
  const time = found.least ? `${taken(Number(found.least.seconds.cpu))} to ${taken(seconds)}` : taken(seconds);
  return `${found.runs} ${found.runs === 1 ? "run" : "runs"}, about ${time} on an idle CPU, ${bytesInWords(memory)} of memory at most, ${bytesInWords(Number(found.disk_bytes.total))} of disk, ${flops.toExponential(1)} operations`;
}

// What the form alone can see: the lines of a grid that its object would lose.
function ownErrors() {
  return [...fields.querySelectorAll(".grid")].flatMap((grid_) => {
    const boxes = [...grid_.querySelectorAll(".line")].map((line) => [...line.querySelectorAll("input")]);
    const found = gridErrors(boxes.map((line) => line.map((box) => box.value.trim())));
    return found.flatMap((message, place) => (message ? [{ pointer: grid_.dataset.pointer, message, control: boxes[place][0] }] : []));
  });
}

// Set a field of a run, such as dataset.labels.
function follow(path, value) {
  const names = path.split(".");
  const last = names.pop();
  const owner = names.reduce((inside, name) => inside[name], spec);
  owner[last] = value;
  render();
  changed();
}

function adviceLine(one) {
  const line = element("li", { class: one.severity }, element("b", {}, one.message), ` ${one.suggestion}`);
  if (one.field && spec.kind !== "study") { // of a study, it is a field of one of its bases
    const take = element("button", { type: "button" }, one.value === null ? `Leave ${one.field} out` : `Use ${one.field}: ${one.value}`);
    take.addEventListener("click", () => follow(one.field, one.value));
    line.append(" ", take);
  }
  return line;
}

function showAdvice(found) {
  advised.hidden = found.length === 0;
  advised.replaceChildren(...found.map(adviceLine));
  showReview();
}

// How much there is to read before the job is submitted, where that is folded.
function showReview() {
  const counted = (count, one, many) => (count ? [`${count} ${count === 1 ? one : many}`] : []);
  const parts = [...counted(difference.querySelectorAll("li").length, "change", "changes"), ...counted(advised.childElementCount, "piece of advice", "pieces of advice")];
  review.querySelector("summary").textContent = parts.length ? `Before you submit: ${parts.join(", ")}` : "Before you submit";
}

function unfold() {
  review.open = beside.matches;
}
beside.addEventListener("change", unfold);
unfold();

// How a training run is expected to begin, and its figures for who opens it; nothing where that is not known.
function showOnset(found) {
  const message = found?.onset?.message ?? "";
  onset.hidden = !message;
  onset.querySelector("summary").textContent = message;
  if (message && onset.open) showOnsetTable(); else onset.querySelector("div").replaceChildren();
}

async function showOnsetTable() {
  const answer = await posted(`${base}/onset.html`, "application/json", stringify(spec));
  if (answer?.ok) onset.querySelector("div").innerHTML = answer.text; // written by the service, which escapes it
}
onset.addEventListener("toggle", () => { if (onset.open) showOnsetTable(); });

const AGAIN_MS = 3000; // until a service that does not answer is asked again
let asked = new AbortController();

async function check() {
  asked.abort(); // an answer to what has changed meanwhile would be wrong
  asked = new AbortController();
  const own = ownErrors();
  if (own.length) {
    cost.textContent = "";
    showErrors(own);
    submit.disabled = true;
    return;
  }
  let answer;
  let written;
  try {
    answer = await fetch(`${base}/v1/estimate`, { method: "POST", headers: { "Content-Type": "application/json" }, body: request(), signal: asked.signal });
    written = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") return;
    cost.textContent = "The service does not answer; it is asked again.";
    clearTimeout(timer);
    timer = setTimeout(check, AGAIN_MS);
    return;
  }
  const found = answer.ok && answer.headers.get("Content-Type")?.includes("json") ? parse(written) : null;
  cost.textContent = found ? words(found) : "";
  showAdvice(found ? found.advice : []);
  showOnset(found);
  showErrors(found ? found.problems.map((message) => ({ pointer: "", message })) : errorsOf(answer.status, written));
  submit.disabled = !found || found.problems.length > 0;
}

let timer = null;
function changed() {
  clearTimeout(timer);
  if (editsText && text.value !== shownText) return; // what is typed is not the spec yet, and may be none
  showDifference();
  timer = setTimeout(check, 250);
}

async function posted(url, kind, content) {
  try {
    const answer = await fetch(url, { method: "POST", headers: { "Content-Type": kind }, body: content });
    return { ok: answer.ok, status: answer.status, text: await answer.text() };
  } catch {
    say("The service does not answer. Try again in a moment.");
    return null;
  }
}

async function showText() {
  if (ownErrors().length) { check(); return false; }
  const answer = await posted(`${base}/spec.yaml`, "application/json", stringify(spec));
  if (answer?.ok) text.value = shownText = answer.text;
  return Boolean(answer?.ok);
}

// The errors that an answer tells, which may come from something in between.
function errorsOf(status, answered) {
  try {
    const { errors } = parse(answered);
    if (errors?.length) return errors;
  } catch { /* said below */ }
  return [{ pointer: "", message: wrong(status, answered, "Change anything, and it is asked again.") }];
}

// The text as the spec; false where it is none, which is said.
async function readText() {
  const read = text.value;
  if (read === shownText) { changed(); return true; } // as it was written from the form
  const answer = await posted(`${base}/spec.json`, "application/yaml", read);
  if (read !== text.value) return false; // typed on meanwhile: that is read next
  if (!answer) reading = setTimeout(readText, AGAIN_MS);
  if (!answer?.ok) {
    asked.abort();
    cost.textContent = "";
    showAdvice([]);
    showOnset(null);
    difference.replaceChildren();
    submit.disabled = true;
    showErrors(answer ? errorsOf(answer.status, answer.text) : [{ pointer: "", message: "the service does not answer; it is asked again" }]);
    return false;
  }
  spec = parse(answer.text);
  shownText = read;
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
document.getElementById("tab-yaml").addEventListener("click", async () => { if (editsText || (await showText())) show(true); });
let reading = null;
text.addEventListener("input", () => {
  for (const one of [timer, reading]) clearTimeout(one);
  asked.abort(); // an answer to the text before would be wrong
  submit.disabled = true;
  reading = setTimeout(readText, 400);
});
form.elements.preset.addEventListener("change", () => { location.href = form.elements.preset.value ? `${base}/new?preset=${form.elements.preset.value}` : `${base}/new`; });
form.addEventListener("change", changed);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (editsText && !(await readText())) return;
  if (ownErrors().length) { check(); return; }
  submit.disabled = true;
  const content = request();
  const job = await send("POST", `${base}/v1/jobs`, content, { headers: { "Idempotency-Key": keyFor(content) }, doubt: "The job may have been made all the same: submit again, and it is not made twice." });
  if (job) location.href = `${base}/jobs/${job.id}`; // until that page is there, the button stays as it is
  else submit.disabled = false;
});
addEventListener("pageshow", (event) => {
  if (!event.persisted) return; // on the way back to the form, what is submitted is another job
  submitted = {};
  check();
});

const catalog = await fetch(`${base}/v1/catalog`);
if (catalog.ok) {
  const entries = parse(await catalog.text());
  schema = entries.spec_schema;
  schema.$defs.DatasetSpec.properties.name.anyOf[0].enum = entries.datasets.map((one) => one.name); // with what was uploaded
  render();
  changed();
} else {
  say("The catalogue could not be read. Reload the page in a moment.");
}
