// Typesets the formulas that pymdownx.arithmatex has marked: \(...\) within a line, \[...\] on its own.
for (const place of document.querySelectorAll(".arithmatex")) {
  const marked = place.textContent.trim();
  const displayMode = marked.startsWith("\\[");
  katex.render(marked.slice(2, -2), place, { displayMode, throwOnError: false });
}
