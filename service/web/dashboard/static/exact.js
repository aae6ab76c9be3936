// JSON with numbers as they are written: JavaScript would round integers beyond 2^53 and rewrite 1.0 and 1e-05.
const MARK = "\uE0F1number:";
const NUMBER = "-?(?:0|[1-9]\\d*)(?:\\.\\d+)?(?:[eE][+-]?\\d+)?";
const TOKEN = new RegExp(`"(?:[^"\\\\]|\\\\.)*"|${NUMBER}`, "g");
const WHOLE = new RegExp(`^${NUMBER}$`);
const MARKED = new RegExp(`"${MARK}(${NUMBER})"`, "g");

// A number that JavaScript would write otherwise.
class Written {
  constructor(text) { this.text = text; }
  toString() { return this.text; }
  toJSON() { return MARK + this.text; }
}

export function parse(text) {
  const marked = text.replace(TOKEN, (token) => (token[0] === '"' || String(Number(token)) === token ? token : `"${MARK}${token}"`));
  return JSON.parse(marked, (_, value) => (typeof value === "string" && value.startsWith(MARK) ? new Written(value.slice(MARK.length)) : value));
}

export function stringify(value) {
  return JSON.stringify(value).replace(MARKED, "$1");
}

export function clone(value) {
  return value === undefined ? undefined : parse(stringify(value));
}

// What was typed as a number, and as the text that it is where it is none: whoever checks it says so.
export function typed(text) {
  const trimmed = text.trim();
  if (!WHOLE.test(trimmed)) return trimmed;
  return String(Number(trimmed)) === trimmed ? Number(trimmed) : new Written(trimmed);
}

export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Written);
}

// The same value, however its numbers are written.
export function same(left, right) {
  if (Array.isArray(left) && Array.isArray(right)) return left.length === right.length && left.every((one, place) => same(one, right[place]));
  if (isObject(left) && isObject(right)) {
    const names = Object.keys(left);
    return names.length === Object.keys(right).length && names.every((name) => name in right && same(left[name], right[name]));
  }
  return left === right || (isNumber(left) && isNumber(right) && plain(left) === plain(right));
}

function isNumber(value) {
  return typeof value === "number" || value instanceof Written;
}

function plain(value) {
  const found = Number(value);
  return Number.isInteger(found) && !Number.isSafeInteger(found) ? String(value) : found;
}
