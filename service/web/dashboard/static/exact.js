// JSON that comes back as it was: JavaScript's own rounds integers beyond 2^53, rewrites 1.0 and 1e-05, and moves names of digits to the front.
// Scripts read and write all JSON with it. A number that JavaScript would write otherwise is a Written; a name of digits bears a mark, which `bare` removes.
const NUMBER = "-?(?:0|[1-9]\\d*)(?:\\.\\d+)?(?:[eE][+-]?\\d+)?";
const TOKEN = new RegExp(`"(?:[^"\\\\]|\\\\.)*"(\\s*:)?|${NUMBER}`, "g"); // a text with a colon after it is a name
const WHOLE = new RegExp(`^${NUMBER}$`);
const TEXT = "t"; // while JSON is parsed or written, each text begins with one of these two, so none is taken for the other
const DIGITS = "n";
const KEEPS_ITS_PLACE = "\u2060"; // not to be seen

// A number that JavaScript would write otherwise.
class Written {
  constructor(text) { this.text = text; }
  toString() { return this.text; }
}

export function parse(text) {
  const marked = text.replace(TOKEN, (token, isName) => (isName ? token.replace(/^"(?=\d+"|\u2060|\\u2060)/, `"${KEEPS_ITS_PLACE}`) : token[0] === '"' ? `"${TEXT}${token.slice(1)}` : String(Number(token)) === token ? token : `"${DIGITS}${token}"`));
  return JSON.parse(marked, (_, value) => (typeof value !== "string" ? value : value[0] === DIGITS ? new Written(value.slice(1)) : value.slice(1)));
}

export function stringify(value) {
  const marked = JSON.stringify(value, (_, one) => (typeof one === "string" ? TEXT + one : one instanceof Written ? DIGITS + one.text : one));
  return marked?.replace(TOKEN, (token, isName) => (isName ? `"${bare(token.slice(1))}` : token[0] !== '"' ? token : token[1] === DIGITS ? token.slice(2, -1) : `"${token.slice(2)}`));
}

export function bare(name) {
  return name.startsWith(KEEPS_ITS_PLACE) ? name.slice(1) : name;
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
