// Sends a data set with a bar that shows how far it is.
import { parse } from "./exact.js";
import { root } from "./live.js";

const form = document.querySelector("[data-upload]");
const bar = form.querySelector("progress");
const status = form.querySelector("output");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const request = new XMLHttpRequest();
  request.open("POST", `${root}/v1/datasets?${new URLSearchParams({ name: form.elements.name.value, meaning: form.elements.meaning.value })}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.addEventListener("progress", (sent) => { bar.value = sent.loaded / sent.total; status.textContent = `${Math.round((100 * sent.loaded) / sent.total)} %`; });
  request.upload.addEventListener("load", () => { status.textContent = "Received; being checked…"; });
  request.addEventListener("load", () => {
    const answer = parse(request.responseText);
    if (request.status >= 400) { bar.hidden = true; status.textContent = answer.detail || answer.title; return; }
    location.href = `${root}/datasets#${answer.name}`;
    location.reload();
  });
  request.addEventListener("error", () => { bar.hidden = true; status.textContent = "The service does not answer; nothing was kept."; });
  bar.hidden = false;
  request.send(form.elements.file.files[0]);
});
