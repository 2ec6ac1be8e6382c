"use strict";

const root = document.documentElement;

// The storage may be closed to pages from a file.
function remembered(action) {
  try {
    return action(sessionStorage);
  } catch {
    return null;
  }
}

function isDark() {
  return root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
}

function themeButton() {
  const button = document.getElementById("theme");
  const show = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered((storage) => storage.setItem("theme", root.dataset.theme));
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

// Numbers by their value, missing ones last in either order; else the texts.
function compare(a, b, sign) {
  if (a.dataset.sort === undefined) {
    return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  }
  if (a.dataset.sort === "" || b.dataset.sort === "") {
    return (a.dataset.sort === "") - (b.dataset.sort === "");
  }
  return sign * (a.dataset.sort - b.dataset.sort);
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    head.addEventListener("click", () => {
      const order = head.ariaSort === "ascending" ? "descending" : "ascending";
      const sign = order === "ascending" ? 1 : -1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const rows = [...body.rows];
      rows.sort((a, b) => compare(a.cells[column], b.cells[column], sign));
      body.append(...rows);
    });
  });
}

function makeSwitch(fieldset) {
  const versions = fieldset.parentElement.querySelectorAll(".version");
  const show = () => {
    const chosen = fieldset.querySelector(":checked").value;
    versions.forEach((version) => (version.hidden = version.dataset.version !== chosen));
  };
  fieldset.addEventListener("change", show);
  show(); // a browser that goes back restores the choice
}

function makeFilter() {
  const input = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const groups = [...document.querySelectorAll("details.group")].map((group) => ({
    group,
    open: group.open,
    cells: [...group.querySelectorAll("details.cell")].map((cell) => ({
      cell,
      text: cell.querySelector("summary").textContent.toLowerCase(),
    })),
  }));
  const total = shown.textContent;
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const { group, open, cells } of groups) {
      let here = 0;
      for (const { cell, text } of cells) {
        cell.hidden = !words.every((word) => text.includes(word));
        here += !cell.hidden;
      }
      group.hidden = here === 0;
      group.open = words.length ? here > 0 : open;
      count += here;
    }
    shown.textContent = words.length ? `${count} of ${total}` : total;
  };
  input.addEventListener("input", apply);
  apply();
  return () => {
    input.value = "";
    apply();
  };
}

// What the address names is opened with all that it lies in.
function reveal(clearFilter) {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  if (target.closest("[hidden]")) clearFilter();
  for (let each = target.closest("details"); each; each = each.parentElement.closest("details")) {
    each.open = true;
  }
  target.scrollIntoView();
}

function openForPrint() {
  const closed = document.querySelectorAll("details:not([open], .cell)");
  closed.forEach((details) => (details.open = true));
  addEventListener("afterprint", () => closed.forEach((details) => (details.open = false)), {
    once: true,
  });
}

root.dataset.theme = remembered((storage) => storage.getItem("theme")) ?? "";
document.addEventListener("DOMContentLoaded", () => {
  themeButton();
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll(".switch").forEach(makeSwitch);
  const clearFilter = makeFilter();
  addEventListener("hashchange", () => reveal(clearFilter));
  addEventListener("beforeprint", openForPrint);
  reveal(clearFilter);
});
