// Sorting, filtering, copying and the colour scheme.  Everything on the page is readable without this script.
// A page in another language names the words in data attributes of the elements that show them.
"use strict";

(function () {
  const root = document.documentElement;
  root.classList.add("scripted");

  // Colour scheme: the system's, until the reader chooses the other one.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("scheme");
  const scheme = () => root.dataset.scheme || (dark.matches ? "dark" : "light");
  const describe = () => {
    const { dark = "Dark", light = "Light" } = toggle.dataset;
    const { labelDark = "Switch to the dark colour scheme", labelLight = "Switch to the light colour scheme" } =
      toggle.dataset;
    toggle.textContent = scheme() === "dark" ? light : dark;
    toggle.setAttribute("aria-label", scheme() === "dark" ? labelLight : labelDark);
  };
  toggle.addEventListener("click", () => {
    root.dataset.scheme = scheme() === "dark" ? "light" : "dark";
    describe();
  });
  dark.addEventListener("change", describe);
  describe();

  // What is folded opens for an address that leads into it.
  const reveal = (hash) => {
    const target = document.getElementById(hash.slice(1));
    const inner = target && target.querySelector(":scope > details.fold");
    for (let part = inner || (target && target.closest("details")); part; part = part.parentElement.closest("details")) {
      part.open = true;
    }
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link) {
      reveal(link.hash);
    }
  });
  window.addEventListener("hashchange", () => reveal(window.location.hash));
  reveal(window.location.hash);

  // Where nothing can hover, a tap shows what a pointer would: the explanation of a word, the figures of a mark.
  const told = (element) => {
    const word = element.closest("abbr[title]");
    const mark = element.closest(".figure g");
    const title = mark && mark.querySelector(":scope > title");
    return word ? word.title : title ? title.textContent : "";
  };
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  document.body.append(tip);
  document.addEventListener("click", (event) => {
    const text = told(event.target);
    tip.hidden = !text;
    tip.textContent = text;
    if (text) {
      const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.setProperty("left", Math.max(8, Math.min(event.pageX, room)) + "px");
      tip.style.setProperty("top", event.pageY + 14 + "px");
    }
  });

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
    const { copied = "Copied", selected = "Selected" } = button.dataset;
    const label = (button.dataset.label ||= button.textContent);
    let done = selected;
    try {
      await navigator.clipboard.writeText(source.textContent);
      done = copied;
    } catch (error) {
      select(source);
    }
    button.textContent = done;
    window.setTimeout(() => {
      button.textContent = label;
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
    const choices = [...bar.querySelectorAll("select[data-column]")];
    // A choice over all columns: rows with a cell of that value, and in them the other cells stand aside.
    const any = bar.querySelector("select[data-any]");
    const wanted = (cell) => !any || !any.value || cell.dataset[any.dataset.any] === any.value;
    const sorter = bar.querySelector("select[data-sort]");
    // What the address keeps, and hands on to the same page in the other language.
    const kept = "remember" in bar.dataset ? [search, any, sorter].filter(Boolean) : [];
    const language = document.getElementById("language");
    const address = language && language.getAttribute("href");
    // Compared with the text on the page: a value from data never passes through markup.
    // A cell's own text, without the note that may stand below it.
    const own = (cell) => cell.dataset.order || cell.textContent.trim();
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
        choices.every((choice) => !choice.value || own(row.cells[choice.dataset.column]) === choice.value) &&
        [...row.cells].some(wanted)
      );
    });
    const remember = () => {
      if (!kept.length) {
        return;
      }
      const query = new URLSearchParams(kept.filter((field) => field.value).map((field) => [field.name, field.value]));
      const suffix = String(query) && "?" + query;
      window.history.replaceState(null, "", window.location.pathname + suffix + window.location.hash);
      language.setAttribute("href", address + suffix);
    };
    const apply = () => {
      everything = false;
      if (any) {
        element.querySelectorAll("tbody td").forEach((cell) => cell.classList.toggle("aside", !wanted(cell)));
      }
      table.draw();
      remember();
    };
    const sort = () => {
      table.order(sorter.value ? [[Number(sorter.value), "asc"]] : []);
      apply();
    };
    const count = () => {
      const info = table.page.info();
      const words = bar.dataset.shown || "{shown} of {total} rows";
      shown.textContent = words.replace("{shown}", info.recordsDisplay).replace("{total}", info.recordsTotal);
    };
    const clear = () => {
      everything = true;
      table.draw();
    };
    search.addEventListener("input", apply);
    choices.forEach((choice) => choice.addEventListener("change", apply));
    if (any) {
      any.addEventListener("change", apply);
    }
    if (sorter) {
      sorter.addEventListener("change", sort);
      table.on("order", () => {
        const first = table.order()[0];
        sorter.value = first ? String(first[0]) : "";
        remember();
      });
    }
    bar.querySelector("button.reset").addEventListener("click", () => {
      [search, any, ...choices].filter(Boolean).forEach((field) => {
        field.value = "";
      });
      table.order([]);
      apply();
    });
    table.on("draw", count);
    const asked = new URLSearchParams(window.location.search);
    kept.forEach((field) => {
      field.value = asked.get(field.name) || "";
    });
    if (kept.some((field) => field.value)) {
      sort();
    }
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
