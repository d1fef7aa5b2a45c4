// Sorting, filtering, copying and the colour scheme.  Everything on the page is readable without this script.
"use strict";

(function () {
  const root = document.documentElement;
  root.classList.add("scripted");

  // Colour scheme: the system's, until the reader chooses the other one.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("scheme");
  const scheme = () => root.dataset.scheme || (dark.matches ? "dark" : "light");
  const describe = () => {
    toggle.textContent = scheme() === "dark" ? "Light" : "Dark";
    toggle.setAttribute("aria-label", "Switch to the " + (scheme() === "dark" ? "light" : "dark") + " colour scheme");
  };
  toggle.addEventListener("click", () => {
    root.dataset.scheme = scheme() === "dark" ? "light" : "dark";
    describe();
  });
  dark.addEventListener("change", describe);
  describe();

  // Copy a command.  Browsers keep the clipboard from pages opened as files: then the text is selected instead.
  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) {
      return;
    }
    const source = document.getElementById(button.dataset.source);
    let done = "Selected";
    try {
      await navigator.clipboard.writeText(source.textContent);
      done = "Copied";
    } catch (error) {
      select(source);
    }
    button.textContent = done;
    window.setTimeout(() => {
      button.textContent = "Copy";
    }, 1600);
  });

  // Tables that sort and filter.
  const tables = [];
  for (const element of document.querySelectorAll("table[data-interactive]")) {
    const table = new DataTable(element, {
      autoWidth: false,
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
      order: [],
      paging: false,
    });
    const bar = document.querySelector('[data-controls="' + element.id + '"]');
    const shown = bar.querySelector(".shown");
    const search = bar.querySelector("input[type=search]");
    const choices = [...bar.querySelectorAll("select")];
    // Compared with the text on the page: a value from data never passes through markup.
    let everything = false;
    table.search.fixed("controls", (_, __, index) => {
      if (everything) {
        return true;
      }
      const row = table.row(index).node();
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const text = row.textContent.toLowerCase();
      return (
        words.every((word) => text.includes(word)) &&
        choices.every((choice) => !choice.value || row.cells[choice.dataset.column].textContent.trim() === choice.value)
      );
    });
    const apply = () => {
      everything = false;
      table.draw();
    };
    const count = () => {
      const info = table.page.info();
      shown.textContent = info.recordsDisplay + " of " + info.recordsTotal + " rows";
    };
    const clear = () => {
      everything = true;
      table.draw();
    };
    search.addEventListener("input", apply);
    choices.forEach((choice) => choice.addEventListener("change", apply));
    bar.querySelector("button.reset").addEventListener("click", () => {
      search.value = "";
      choices.forEach((choice) => {
        choice.value = "";
      });
      table.order([]);
      apply();
    });
    table.on("draw", count);
    count();
    tables.push({ apply, clear });
  }

  // Paper shows every row and every folded part, whatever the filters say; afterwards all is as it was.
  let opened = null;
  const beforePrint = () => {
    if (opened !== null) {
      return;
    }
    tables.forEach((table) => table.clear());
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => {
      part.open = true;
    });
  };
  const afterPrint = () => {
    if (opened === null) {
      return;
    }
    opened.forEach((part) => {
      part.open = false;
    });
    opened = null;
    tables.forEach((table) => table.apply());
  };
  window.addEventListener("beforeprint", beforePrint);
  window.addEventListener("afterprint", afterPrint);
  window.matchMedia("print").addEventListener("change", (event) => (event.matches ? beforePrint() : afterPrint()));
})();
