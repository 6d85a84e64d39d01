"use strict";
// A choice shows the cards of one group; which one is kept in the address.
const choices = [...document.querySelectorAll("select[data-cards]")];

function show(choice) {
  for (const card of document.getElementById(choice.dataset.cards).children) {
    card.hidden = choice.value !== "" && card.dataset.group !== choice.value;
  }
}

const state = new URLSearchParams(location.hash.slice(1));
for (const choice of choices) {
  choice.value = state.get(choice.dataset.cards) ?? "";
  if (choice.selectedIndex < 0) choice.value = "";
  show(choice);
  choice.addEventListener("input", () => {
    show(choice);
    const kept = choices.filter((c) => c.value).map((c) => c.dataset.cards + "=" + encodeURIComponent(c.value));
    history.replaceState(null, "", "#" + kept.join("&"));
  });
}
