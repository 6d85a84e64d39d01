"use strict";
const examples = JSON.parse(document.getElementById("examples").textContent);
const controls = ["outcome", "kind", "words"].map((id) => document.getElementById(id));
const body = document.body;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function thumbnail(example) {
  if (!example.thumbnail) return element("div", "missing", "no image");
  const image = element("img");
  image.alt = example.image;
  image.addEventListener("load", () => { body.dataset.images = Number(body.dataset.images || 0) + 1; });
  image.addEventListener("error", () => { body.dataset.broken = Number(body.dataset.broken || 0) + 1; });
  image.src = example.thumbnail;
  return image;
}

function list(pairs) {
  const made = element("dl");
  for (const [name, text] of pairs) if (text) made.append(element("dt", "", name), element("dd", "", text));
  return made;
}

function probabilities(example) {
  const made = element("div");
  const bar = element("div", "p");
  ["yes", "no", "open"].forEach((name, i) => {
    const part = element("span", name);
    part.style.flex = String(example.p[i]);
    bar.append(part);
  });
  const text = ["yes", "no", "open"].map((name, i) => name + " " + example.p[i].toFixed(3)).join("   ");
  made.append(bar, element("span", "name", text));
  return made;
}

function card(example) {
  const made = element("article");
  const side = element("div");
  side.append(thumbnail(example), element("div", "name", example.image || example.id));
  const main = element("div");
  main.append(element("span", "chip " + example.outcome, example.outcome));
  if (example.kind) main.append("  ", element("span", "name", example.kind + (example.detail ? ", " : "")));
  if (example.detail) main.append(" ", element("span", "name", example.detail));
  if (example.p) main.append(probabilities(example));
  main.append(list([["Caption", example.caption], ["Question", example.question], ["Informative", example.informative],
    ["Precise", example.precise]]));
  if (example.instruction) {
    const task = element("details");
    task.append(element("summary", "", "The task made of it"),
      list([["Instruction", example.instruction], ["Response", example.response]]));
    main.append(task);
  }
  made.append(side, main);
  return made;
}

function words(example) {
  return [example.caption, example.question, example.informative, example.precise, example.image, example.id].join(" ").toLowerCase();
}

function show() {
  const [outcome, kind, search] = controls.map((control) => control.value);
  let shown = 0;
  examples.forEach((example, i) => {
    const fits = (!outcome || example.outcome === outcome) && (!kind || example.kind === kind) &&
      (!search || words(example).includes(search.toLowerCase()));
    cards[i].hidden = !fits;
    cards[i].style.display = fits ? "" : "none";
    shown += fits;
  });
  body.dataset.shown = shown;
  document.getElementById("shown").textContent = shown + " of " + examples.length + " examples shown";
}

function remember() {
  const state = controls.filter((control) => control.value).map((c) => c.id + "=" + encodeURIComponent(c.value));
  history.replaceState(null, "", "#" + state.join("&"));
  show();
}

function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const control of controls) control.value = state.get(control.id) || "";
  show();
}

for (const [i, field] of ["outcome", "kind"].entries()) {
  const values = [...new Set(examples.map((example) => example[field]).filter(Boolean))].sort();
  for (const value of values) controls[i].append(new Option(value, value));
}
const cards = examples.map(card);
document.getElementById("cards").append(...cards);
document.querySelector("form").addEventListener("input", remember);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", recall);
recall();
