// The tables of jobs: what is selected stays so while the page is kept live, buttons say for how many it is possible, and addresses stay short.
const picked = new Map(); // the ids that are selected, each with what its state allows
const form = document.getElementById("picked");
const MOST_COMPARED = 12;
let last = null; // the box that was clicked last, for Shift

const boxes = () => [...document.querySelectorAll("input[name=job]")];
const allowed = (box) => box.dataset.actions.split(" ");
const whole = () => form.querySelector("[data-all]");

// Boxes, counts and buttons as they are now, after a click and after each look at the service.
function show() {
  if (!form) return;
  for (const box of boxes()) {
    box.checked = picked.has(box.value);
    if (box.checked) picked.set(box.value, allowed(box)); // its state may have changed
    box.closest("tr").classList.toggle("is-picked", box.checked);
  }
  const page = document.querySelector("[data-page]");
  if (page) {
    page.closest("[data-whole]").hidden = false;
    const there = boxes();
    const chosen = there.filter((box) => box.checked).length;
    page.checked = there.length > 0 && chosen === there.length;
    page.indeterminate = chosen > 0 && !page.checked;
  }
  showBar();
}

function showBar() {
  const totals = document.querySelector("[data-total]");
  const all = Boolean(whole()?.checked);
  const count = all ? Number(totals?.dataset.total || 0) : picked.size;
  if (whole() && totals) form.querySelector("[data-all-count]").textContent = Number(totals.dataset.total).toLocaleString("en");
  form.hidden = picked.size === 0 && !all;
  form.querySelector("[data-clear]").hidden = false;
  form.querySelector("[data-count]").textContent = count.toLocaleString("en");
  form.querySelector("[data-word]").textContent = "selected";
  form.querySelector("[data-compare]").disabled = all || count < 2 || count > MOST_COMPARED;
  for (const button of form.querySelectorAll("[data-needs]")) {
    const action = button.dataset.needs;
    const possible = all ? (totals?.dataset.allowed.split(" ").includes(action) ? count : 0) : [...picked.values()].filter((can) => can.includes(action)).length;
    button.hidden = possible === 0;
    const word = action[0].toUpperCase() + action.slice(1);
    button.textContent = all || possible === count ? word : `${word} ${possible}`;
  }
}

function pick(box, on) {
  if (on) picked.set(box.value, allowed(box)); else picked.delete(box.value);
}

document.addEventListener("click", (event) => {
  const box = event.target.closest?.("input[name=job]");
  if (!box) return;
  const there = boxes();
  const [from, to] = [there.findIndex((one) => one.value === last), there.indexOf(box)].sort((one, other) => one - other);
  if (event.shiftKey && from >= 0) for (const one of there.slice(from, to + 1)) pick(one, box.checked);
  last = box.value;
});

document.addEventListener("change", (event) => {
  const target = event.target;
  if (target.name === "job") pick(target, target.checked);
  else if (target.dataset.page !== undefined) for (const box of boxes()) pick(box, target.checked);
  else if (target.dataset.all === undefined) return;
  show();
});

form?.querySelector("[data-clear]").addEventListener("click", () => {
  picked.clear();
  if (whole()) whole().checked = false;
  show();
  document.getElementById("main").focus({ preventScroll: true });
});

// What is selected and no longer on the page, because others came before it, is sent as well.
form?.addEventListener("formdata", (event) => {
  if (whole()?.checked) { event.formData.delete("job"); return; }
  const there = new Set(event.formData.getAll("job"));
  for (const id of picked.keys()) if (!there.has(id)) event.formData.append("job", id);
});

// A short address: nothing that is empty, columns in one parameter and only where they are not those of every list.
for (const filters of document.querySelectorAll("[data-filters]")) {
  filters.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    const columns = [];
    for (const [name, value] of new FormData(filters)) {
      if (!value.trim() || (name === "rows" && value === "50")) continue;
      if (name === "columns") columns.push(value.trim()); else query.append(name, value.trim());
    }
    const usual = [...filters.querySelectorAll("[data-default]")].map((one) => one.value);
    if (columns.length && columns.join() !== usual.join()) query.append("columns", columns.join(","));
    location.href = query.size ? `${filters.action}?${query}` : filters.action;
  });
}

document.addEventListener("refreshed", show);
addEventListener("pageshow", show);
show();
