"use strict";
// What a page can do beyond being read: its tables sort, and models and tasks can be left out.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Sorting: ascending, descending, as it was. What is empty stays last.
  const collator = new Intl.Collator("en", { numeric: true });
  const after = { none: "ascending", ascending: "descending", descending: "none" };
  const keyOf = (cell, numeric) => {
    const key = numeric ? cell.dataset.key : cell.textContent.trim();
    return key === undefined || key === "" || key === "-" ? null : key;
  };
  const order = (column, numeric, sign) => (a, b) => {
    const [x, y] = [a, b].map((row) => keyOf(row.cells[column], numeric));
    if (x === null || y === null) return (x === null) - (y === null);
    if (!numeric) return sign * collator.compare(x, y);
    return Number(x) === Number(y) ? 0 : sign * (Number(x) < Number(y) ? -1 : 1);
  };
  for (const table of all(".data table")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    if (rows.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const direction = after[head.getAttribute("aria-sort")];
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", direction);
        const sign = direction === "ascending" ? 1 : -1;
        const compare = order(column, head.classList.contains("n"), sign);
        body.append(...(direction === "none" ? rows : [...rows].sort(compare)));
      });
    });
  }

  // Filtering. Rows and artists of no model on the list, such as chance, always show.
  const filter = document.querySelector(".filter");
  if (filter) {
    const [status, details] = [filter.querySelector("[role=status]"), filter.querySelector("details")];
    const kinds = ["model", "task"];
    const apply = () => {
      const counts = [];
      for (const kind of kinds) {
        const boxes = all(`input[name=${kind}]`, filter);
        const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
        for (const element of all(`[data-${kind}]`)) {
          element.toggleAttribute("hidden", off.has(element.dataset[kind]));
        }
        const [shown, plural] = [boxes.length - off.size, boxes.length === 1 ? "" : "s"];
        if (boxes.length) counts.push(`${shown} of ${boxes.length} ${kind}${plural}`);
      }
      status.textContent = counts.join(", ");
    };
    const close = () => details.removeAttribute("open");
    filter.addEventListener("change", apply);
    filter.querySelector("button").addEventListener("click", () => {
      for (const box of all("input", filter)) box.checked = true;
      apply();
    });
    filter.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && details.open) {
        close();
        details.querySelector("summary").focus();
      }
    });
    document.addEventListener("click", (event) => details.contains(event.target) || close());
    filter.hidden = false;
    apply();
  }

  // What a link leads to is opened, and so is everything before printing.
  const reveal = () => {
    let name = location.hash.slice(1);
    try {
      name = decodeURIComponent(name);
    } catch {} // a stray % is taken as it stands
    const target = document.getElementById(name);
    for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) {
      fold.open = true;
    }
  };
  addEventListener("hashchange", reveal);
  reveal();
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details.fold:not([open])");
    for (const fold of closed) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
  });

  // Only a box that scrolls is a stop of the Tab key.
  const boxes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of all(".scroll")) boxes.observe(box);
})();
