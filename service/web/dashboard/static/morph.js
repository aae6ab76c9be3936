// Makes a part of the page like a newly fetched one, and leaves alone what has not changed: a button that somebody is about to
// press stays the same button, a field keeps what was typed, a section that was opened stays open, and a chart stays drawn.

const CONTROLS = "a, button, input, select, textarea, summary";

// What tells one element from its siblings: null where only the place does.
function key(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  if (node.id) return `#${node.id}`;
  if (node.dataset.chart) return `chart ${node.dataset.chart}`;
  if (node.localName === "tr") return rowKey(node);
  if (node.matches(CONTROLS)) return named(node);
  return node.className ? `.${node.className}` : null;
}

// A row is that of its box or of its link.
function rowKey(row) {
  return row.querySelector("input[name=job]")?.value ?? row.querySelector("a[href]")?.getAttribute("href") ?? null;
}

// What a control does, in one text.
export function named(control) {
  const { dataset } = control;
  return [control.localName, control.getAttribute("name"), control.getAttribute("href"), control.getAttribute("value"), control.getAttribute("aria-label"), dataset.post, dataset.patch, dataset.body, dataset.delete, control.localName === "button" ? control.textContent : ""].join(" ");
}

function alike(old, fresh) {
  return old.nodeName === fresh.nodeName && key(old) === key(fresh);
}

function sync(old, fresh) {
  const theirs = (name) => name === "open" && old.localName === "details"; // that of the reader
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !theirs(name)) old.removeAttribute(name);
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value && !theirs(name)) old.setAttribute(name, value);
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  if (old.dataset.chart || old.isEqualNode(fresh)) return; // the drawing of a chart has an owner of its own
  sync(old, fresh);
  morphChildren(old, fresh);
}

// The old node that becomes the wanted one: the next, or one that moved and is told by its key.
function partner(at, wanted) {
  if (at && alike(at, wanted)) return at;
  if (key(wanted) === null) return null;
  for (let other = at; other; other = other.nextSibling) if (alike(other, wanted)) return other;
  return null;
}

export function morphChildren(old, fresh) {
  let at = old.firstChild;
  for (const wanted of fresh.childNodes) {
    const found = partner(at, wanted);
    if (!found) { old.insertBefore(document.importNode(wanted, true), at); continue; }
    if (found === at) at = at.nextSibling; else old.insertBefore(found, at);
    morph(found, wanted);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}
