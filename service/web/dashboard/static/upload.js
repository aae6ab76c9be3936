// Sends a data set with a bar that shows how far it is.
import { parse } from "./exact.js";
import { root, wrong } from "./live.js";

const form = document.querySelector("[data-upload]");
const bar = form.querySelector("progress");
const status = form.querySelector("output");
const DOUBT = "The data set may have been stored all the same: reload this page and look at the list. To send the same file under the same name again does no harm.";

function fail(text) {
  bar.hidden = true;
  status.textContent = text;
  status.className = "wrong";
}

// Show what was stored, alone: among many it would be on a page that nobody looks at.
function show(name) {
  const there = new URL(`${root}/datasets?${new URLSearchParams({ name })}#${name}`, location.href);
  const isHere = there.pathname + there.search === location.pathname + location.search;
  location.href = there.href;
  if (isHere) location.reload(); // the address differs in its place in the page at most
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const request = new XMLHttpRequest();
  request.open("POST", `${root}/v1/datasets?${new URLSearchParams({ name: form.elements.name.value, meaning: form.elements.meaning.value })}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.addEventListener("progress", (sent) => { bar.value = sent.loaded / sent.total; status.textContent = `${Math.round((100 * sent.loaded) / sent.total)} %`; });
  request.upload.addEventListener("load", () => { status.textContent = "Received; being checked…"; });
  request.addEventListener("load", () => {
    const stored = [200, 201].includes(request.status) && request.getResponseHeader("Content-Type")?.includes("json");
    if (!stored) { fail(wrong(request.status, request.responseText, DOUBT)); return; }
    show(parse(request.responseText).name);
  });
  request.addEventListener("error", () => fail(`The connection ended before an answer came. ${DOUBT} A proxy in between that refuses files of this size may end it, too: client_max_body_size in nginx.`));
  bar.hidden = false;
  status.className = "";
  request.send(form.elements.file.files[0]);
});
