// The first page: one place at a time, chosen by target and model, and kept in the address so that it can be sent.
"use strict";

(function () {
  const form = document.getElementById("place");
  const sections = [...document.querySelectorAll(".decision")];
  if (!form || !sections.length) {
    return;
  }
  const { place, model } = form.elements;
  const language = document.getElementById("language");
  const elsewhere = language && language.getAttribute("href");

  const show = (chosen) => {
    sections.forEach((section) => section.classList.toggle("chosen", section === chosen));
    place.value = chosen.dataset.place;
    const models = sections.filter((section) => section.dataset.place === place.value);
    model.replaceChildren(...models.map((section) => new Option(section.dataset.model)));
    model.value = chosen.dataset.model;
    if (language) {
      language.setAttribute("href", elsewhere + "#" + chosen.id);
    }
  };
  const at = (wantedPlace, wantedModel) => {
    const there = sections.filter((section) => section.dataset.place === wantedPlace);
    return there.find((section) => section.dataset.model === wantedModel) ?? there[0];
  };
  const asked = () => sections.find((section) => "#" + section.id === window.location.hash) ?? sections[0];

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    const chosen = at(place.value, model.value);
    show(chosen);
    // Not assigned to the hash: the page would jump to the section, away from what was clicked.
    window.history.replaceState(null, "", "#" + chosen.id);
  });
  window.addEventListener("hashchange", () => show(asked()));
  form.hidden = false;
  show(asked());
})();
