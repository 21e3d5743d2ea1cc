"use strict";
// Headings become buttons that sort: upwards, downwards, as recorded. Without script the tables stay
// as they are.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], recorded = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      for (const other of heads) other.removeAttribute("aria-sort");
      if (was === "descending") { body.append(...recorded); return; }
      const sign = was === "ascending" ? -1 : 1;
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      body.append(...recorded.toSorted((a, b) => compare(a.cells[column], b.cells[column], sign)));
    });
  });
  if (recorded.length > 12) addFilter(table, recorded);
}

// Cells without a value come last, whichever way.
function compare(a, b, sign) {
  if (!("v" in a.dataset)) return sign * a.textContent.localeCompare(b.textContent);
  if (a.dataset.v === "" || b.dataset.v === "") return (a.dataset.v === "") - (b.dataset.v === "");
  return sign * (a.dataset.v - b.dataset.v);
}

function addFilter(table, rows) {
  const box = document.createElement("p"), label = document.createElement("label");
  const input = document.createElement("input"), count = document.createElement("span");
  box.className = "filter";
  input.type = "search";
  count.setAttribute("role", "status");
  label.append("Only rows with ", input);
  box.append(label, count);
  table.parentElement.before(box);
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  input.addEventListener("input", show);
  show();
}
