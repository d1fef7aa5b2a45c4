// The panel "what to deploy": the rules of bench/decide/deploy/recommend.py and the words of bench/report/recommendation.py over the
// data in the page.  tests/test_recommend.py holds the two together.  Data reaches the page as text only.
"use strict";

(function () {
  const panel = document.getElementById("recommend");
  if (!panel) {
    return;
  }
  const data = JSON.parse(document.getElementById("recommend-data").textContent);
  const form = panel.querySelector("form");
  for (const { candidates } of data.fields) {
    candidates.forEach((candidate, place) => {
      candidate.place = place;
    });
  }

  // Rules

  const surelyBetter = (one, other) => one.high !== null && other.low !== null && one.high < other.low;
  const noWorse = (one, other) =>
    one !== null && other !== null && one.high !== null && other.high !== null && one.high <= other.high;

  const hold = (figure, quantity, limit) => {
    if (figure === null) {
      return "unknown";
    }
    const meets = (value, bound) => (quantity.side === "at_most" ? value <= bound : value >= bound);
    const worse = quantity.side === "at_most" ? figure.high : figure.low;
    if (!meets(figure.value, limit)) {
      return "missed";
    }
    return worse === null || !meets(worse, limit * quantity.slack) ? "possibly" : "met";
  };

  const standingOf = (candidate, held) => {
    const outcomes = Object.values(held);
    if (outcomes.includes("missed") || outcomes.includes("unknown")) {
      return "dropped";
    }
    return outcomes.includes("possibly") || candidate.figures.time.high === null ? "possibly" : "meets";
  };

  const known = (choice, name) => choice.candidate.figures[name]?.value ?? Infinity;
  const near = (one, other) => {
    const times = [one, other].map((choice) => choice.candidate.figures.time.value);
    return Math.max(...times) <= data.near * Math.min(...times);
  };
  // First those that tie with the fastest.  Infinity less itself is no number, and no difference.
  const byPlace = (fastest) => (one, other) => {
    const [first, second] = [one, other].map((choice) => choice === fastest || choice.ties.includes(fastest));
    if (first !== second) {
      return first ? -1 : 1;
    }
    const apart = first
      ? known(one, "loss") - known(other, "loss") || known(one, "size") - known(other, "size")
      : one.rank - other.rank;
    return apart || byTime(one, other);
  };
  const byTime = (one, other) => one.candidate.figures.time.value - other.candidate.figures.time.value;

  // Times of two are compared directly: a candidate's row of the matrix holds, per candidate of the field, whether it is
  // surely slower (1), surely faster (-1) or neither, whether it is slower by the estimate, and the ratio as text.
  const against = (one, other) => one.candidate.against[other.candidate.place];
  const surelyFaster = (one, other) => against(one, other) !== null && against(one, other)[0] < 0;

  const rank = (choice, meets) => {
    const own = choice.candidate.figures;
    const others = meets.filter((other) => other !== choice);
    const faster = others.filter((other) => surelyFaster(other, choice));
    choice.rank = faster.length + 1;
    choice.ties = others.filter(
      (other) => !faster.includes(other) && !surelyFaster(choice, other) && near(choice, other)
    );
    const rest = data.front.filter((name) => name !== "time");
    for (const other of others) {
      const theirs = other.candidate.figures;
      const pair = against(other, choice);
      if (pair !== null && !pair[1] && rest.every((name) => noWorse(theirs[name], own[name]))) {
        choice.betterIn = data.front.filter((name) =>
          name === "time" ? surelyFaster(other, choice) : surelyBetter(theirs[name], own[name])
        );
        if (choice.betterIn.length) {
          choice.beatenBy = other;
          break;
        }
      }
    }
  };

  const mostExcluding = (choices) => {
    let worst = null;
    for (const quantity of data.quantities) {
      const failing = choices.filter((choice) => ["missed", "unknown"].includes(choice.held[quantity.id]));
      if (failing.length > (worst ? worst.count : 0)) {
        const sign = quantity.side === "at_most" ? 1 : -1;
        let nearest = null;
        for (const { candidate } of choices) {
          const figure = candidate.figures[quantity.id];
          if (figure && (!nearest || sign * figure.value < sign * nearest.figures[quantity.id].value)) {
            nearest = candidate;
          }
        }
        worst = { quantity, count: failing.length, nearest };
      }
    }
    return worst;
  };

  const recommend = (candidates, limits) => {
    const all = candidates.map((candidate) => {
      const held = {};
      for (const quantity of data.quantities) {
        if (quantity.id in limits) {
          held[quantity.id] = hold(candidate.figures[quantity.id], quantity, limits[quantity.id]);
        }
      }
      return { candidate, held, standing: standingOf(candidate, held), ties: [], beatenBy: null };
    });
    const group = (standing) => all.filter((choice) => choice.standing === standing);
    const meets = group("meets").sort(byTime);
    meets.forEach((choice) => rank(choice, meets));
    meets.sort(byPlace(meets[0]));
    meets.forEach((choice) => {
      choice.behind = surelyFaster(meets[0], choice) ? meets[0] : null;
    });
    return {
      meets,
      possibly: group("possibly").sort(byTime),
      dropped: group("dropped"),
      excluding: mostExcluding(all),
      total: all.length,
    };
  };

  // Words

  const say = (key, gaps) => data.texts[key].replace(/\{(\w+)\}/g, (_, name) => String(gaps[name]));
  const list = (items) => items.join(data.texts.separator);
  const names = (choices) => list(choices.map((choice) => choice.candidate.name));
  const shown = (name, candidate) => (candidate.figures[name] ? candidate.figures[name].shown : data.missing);

  const reasons = (choice, limits) => {
    const told = [];
    for (const quantity of data.quantities) {
      const outcome = choice.held[quantity.id];
      const figure = choice.candidate.figures[quantity.id];
      let key = "";
      if (choice.standing === "dropped" && outcome === "unknown") {
        key = "why.unknown";
      } else if (choice.standing === "dropped" && outcome === "missed") {
        key = quantity.side === "at_most" ? "why.above" : "why.below";
      } else if (choice.standing === "possibly" && outcome === "possibly") {
        key = figure.low === null ? "why.bare" : "why.possibly";
      }
      if (key) {
        const name = data.texts["quantity." + quantity.id];
        told.push(say(key, { quantity: name, figure: shown(quantity.id, choice.candidate), limit: limits[quantity.id] }));
      }
    }
    if (choice.standing === "possibly" && choice.candidate.figures.time.high === null) {
      told.push(data.texts["why.unranked"]);
    }
    if (choice.standing !== "meets") {
      return told;
    }
    if (choice.behind) {
      const figure = against(choice, choice.behind)[2];
      told.push(say("why.behind", { figure, option: choice.behind.candidate.name }));
    }
    if (choice.ties.length) {
      told.push(say("why.tie", { options: names(choice.ties) }));
    }
    if (choice.beatenBy) {
      const better = list(choice.betterIn.map((name) => data.texts["better." + name]));
      told.push(say("why.beaten", { option: choice.beatenBy.candidate.name, quantities: better }));
    } else {
      told.push(data.texts["why.front"]);
    }
    return told;
  };

  const summary = (found) => {
    if (found.meets.length) {
      const first = found.meets[0];
      const key = found.meets.length === 1 ? "single" : first.ties.length ? "tied" : "alone";
      return [say("summary." + key, { option: first.candidate.name, options: names(first.ties) })];
    }
    const told = [data.texts["summary.nothing"]];
    if (found.possibly.length) {
      told.push(say("summary.possible", { options: names(found.possibly) }));
    }
    const worst = found.excluding;
    if (worst) {
      const gaps = { quantity: data.texts["quantity." + worst.quantity.id], count: worst.count, total: found.total };
      if (worst.nearest) {
        gaps.option = worst.nearest.name;
        gaps.figure = shown(worst.quantity.id, worst.nearest);
      }
      told.push(say(worst.nearest ? "summary.excluding" : "summary.excluding_unmeasured", gaps));
    }
    return told;
  };

  // Page

  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (className) {
      made.className = className;
    }
    return made;
  };

  const folded = (title, open, ...content) => {
    const part = document.createElement("details");
    const summary = document.createElement("summary");
    part.open = open;
    summary.append(...[title].flat());
    part.append(summary, ...content);
    return part;
  };

  const card = (choice, limits) => {
    const item = document.createElement("li");
    item.dataset.cell = choice.candidate.id;
    item.dataset.standing = choice.standing;
    const title = element("h3", choice.candidate.name);
    if (choice.rank) {
      item.dataset.rank = choice.rank;
      title.prepend(element("span", choice.rank, "rank"), " ");
      if (!choice.beatenBy) {
        title.append(" ", element("span", data.texts["panel.front"], "front"));
      }
    }
    const figures = document.createElement("dl");
    for (const quantity of data.quantities) {
      const pair = document.createElement("div");
      if (quantity.id in limits) {
        pair.className = choice.held[quantity.id];
      }
      pair.append(
        element("dt", data.texts["column." + quantity.id]),
        element("dd", shown(quantity.id, choice.candidate))
      );
      figures.append(pair);
    }
    const why = document.createElement("ul");
    why.className = "why";
    why.append(...reasons(choice, limits).map((reason) => element("li", reason)));
    const glance = element("span", shown("latency", choice.candidate), "glance");
    item.append(folded([title, " ", glance], choice.rank === 1, figures, why));
    return item;
  };

  const passedCard = (passed) => {
    const item = document.createElement("li");
    item.dataset.standing = "passed";
    item.append(element("h3", passed.name), element("p", passed.why));
    return item;
  };

  const limitsAsked = () => {
    const limits = {};
    for (const quantity of data.quantities) {
      const input = form.elements[quantity.id];
      const usable = input.validity.valid;
      input.closest(".limit").querySelector(".wrong").hidden = usable;
      if (usable && input.value !== "") {
        limits[quantity.id] = input.valueAsNumber;
      }
    }
    return limits;
  };

  const field = () => data.fields[Number(form.elements.field.value)];

  // What the address keeps, so that a selection can be sent: the place, and all that is not as the page came.
  const language = document.getElementById("language");
  const elsewhere = language && language.getAttribute("href");
  const remember = () => {
    const kept = new URLSearchParams();
    if (form.elements.field.value !== "0") {
      kept.set("place", field().key);
    }
    for (const { id } of data.quantities) {
      const input = form.elements[id];
      if (input.validity.valid && input.value !== input.defaultValue) {
        kept.set(id, input.value);
      }
    }
    if (form.elements.in_guide.checked) {
      kept.set("in_guide", "1");
    }
    const suffix = String(kept) && "#" + kept;
    window.history.replaceState(null, "", window.location.pathname + window.location.search + suffix);
    if (language) {
      language.setAttribute("href", elsewhere + suffix);
    }
  };
  const recall = () => {
    const asked = new URLSearchParams(window.location.hash.slice(1));
    const place = data.fields.findIndex((one) => one.key === asked.get("place"));
    form.elements.field.value = String(Math.max(place, 0));
    for (const { id } of data.quantities) {
      const input = form.elements[id];
      const given = asked.get(id);
      // Empty is a limit that was taken away; what is no number sets none of its own.
      input.value = given !== null && Number.isFinite(Number(given)) ? given : input.defaultValue;
    }
    form.elements.in_guide.checked = asked.has("in_guide");
    spread();
    update();
    if (language) {
      language.setAttribute("href", elsewhere + window.location.hash);
    }
  };

  // A slider spans what was measured; at its loose end it sets no limit.
  const spread = () => {
    for (const quantity of data.quantities) {
      const slider = form.querySelector('[data-for="' + quantity.id + '"]');
      const figures = field().candidates.map((candidate) => candidate.figures[quantity.id]).filter(Boolean);
      const ends = figures.flatMap((figure) => [figure.value, figure.low ?? figure.value, figure.high ?? figure.value]);
      slider.closest(".limit").classList.toggle("unmeasured", !ends.length);
      if (ends.length) {
        const step = quantity.step;
        slider.min = Math.max(0, Math.floor(Math.min(...ends) / step) * step);
        slider.max = Math.ceil(Math.max(...ends) / step) * step;
      }
      slide(quantity);
    }
  };
  const loose = (quantity, slider) => (quantity.side === "at_most" ? slider.max : slider.min);
  const slide = (quantity) => {
    const slider = form.querySelector('[data-for="' + quantity.id + '"]');
    slider.value = form.elements[quantity.id].value || loose(quantity, slider);
  };

  const update = () => {
    const limits = limitsAsked();
    const chosen = field();
    const candidates = chosen.candidates.filter((one) => one.in_guide || !form.elements.in_guide.checked);
    const found = recommend(candidates, limits);
    // A limit that there usually is, and that the reader took away, has to be taken away from the command too.
    const options = data.quantities
      .filter((one) => one.id in limits || one.usual !== null)
      .map((one) => one.option + " " + (limits[one.id] ?? one.most));
    if (form.elements.in_guide.checked) {
      options.push("--in-guide");
    }
    panel.querySelector(".command").textContent = [chosen.command, ...options].join(" ");
    panel.querySelector(".verdict").replaceChildren(...summary(found).map((text) => element("p", text)));
    const parts = [];
    for (const standing of ["meets", "possibly", "dropped"]) {
      if (found[standing].length) {
        const cards = document.createElement(standing === "meets" ? "ol" : "ul");
        cards.append(...found[standing].map((choice) => card(choice, limits)));
        parts.push(element("h2", data.texts["standing." + standing]), cards);
      }
    }
    if (chosen.passed.length) {
      const cards = document.createElement("ul");
      cards.append(...chosen.passed.map(passedCard));
      parts.push(folded(element("h2", data.texts["standing.passed"]), false, cards));
    }
    panel.querySelector(".choices").replaceChildren(...parts);
    panel.querySelector(".caveats ul").replaceChildren(...chosen.caveats.map((text) => element("li", text)));
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    window.setTimeout(() => {
      spread();
      update();
      remember();
    });
  });
  form.addEventListener("input", (event) => {
    const name = event.target.dataset.for;
    const quantity = data.quantities.find((one) => one.id === (name || event.target.name));
    if (name) {
      form.elements[name].value = event.target.value === loose(quantity, event.target) ? "" : event.target.value;
    } else if (quantity) {
      slide(quantity);
    } else if (event.target.name === "field") {
      spread();
    }
    update();
    remember();
  });
  window.addEventListener("hashchange", recall);
  recall();
})();
