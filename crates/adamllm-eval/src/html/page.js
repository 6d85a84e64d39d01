"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const PAGE = 24;
const byId = (id) => document.getElementById(id);
const controls = ["benchmark", "type", "run", "wrong", "unparsed", "scorings", "runs", "text"];
const control = Object.fromEntries(controls.map((name) => [name, byId("f-" + name)]));
let shown = PAGE;

// Texts only ever become text nodes: an answer cannot bring elements into the page.
function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function fill(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => {
    const option = element("option", "", text);
    option.value = value;
    return option;
  }));
}

const benchmark = () => page.benchmarks[Number(control.benchmark.value)];

function fillTypes() {
  const types = [...new Set(benchmark().examples.map((example) => example.answer_type))].sort();
  fill(control.type, [["", "all"], ...types.map((type) => [type, type])]);
  fill(control.run, [["", "any"], ...benchmark().runs.map((name, i) => [i, name])]);
  for (const name of ["run", "runs"]) control[name].closest("label").hidden = benchmark().runs.length < 2;
}

function runsDiffer(example) {
  const scores = example.answers.map((answer) => (answer ? answer.strict : null));
  return scores.some((score) => score !== scores[0]);
}

function matches(example) {
  const of = control.run.value;
  const answers = (of === "" ? example.answers : [example.answers[Number(of)]]).filter(Boolean);
  if (control.type.value && example.answer_type !== control.type.value) return false;
  if (control.wrong.checked && !answers.some((answer) => answer.strict < 100)) return false;
  if (control.unparsed.checked && !answers.some((answer) => answer.unparsed)) return false;
  if (control.scorings.checked && !answers.some((answer) => answer.disagrees)) return false;
  if (control.runs.checked && !runsDiffer(example)) return false;
  const wanted = control.text.value.trim().toLowerCase();
  const texts = [example.question, example.label, ...answers.map((answer) => answer.text)];
  return !wanted || texts.some((text) => text.toLowerCase().includes(wanted));
}

function badge(name, score) {
  const text = name + " " + (score === null ? "–" : score.toFixed(score % 1 ? 1 : 0));
  return element("span", "badge " + (score === null ? "muted" : score >= 100 ? "good" : score > 0 ? "warn" : "bad"), text);
}

function answerNode(run, answer) {
  const node = element("div", "answer");
  const head = element("div", "head");
  head.append(element("span", "run", run));
  node.append(head);
  if (!answer) {
    head.append(element("span", "small", "no answer"));
    return node;
  }
  head.append(badge("paper", answer.paper), badge("strict", answer.strict));
  if (answer.unparsed) head.append(element("span", "badge warn", "unparsed"));
  if (answer.random) head.append(element("span", "badge warn", "drawn at random"));
  node.append(element("div", "text", answer.text || "(empty)"));
  if (answer.read) node.append(element("div", "small", "read as: " + answer.read));
  return node;
}

function card(example, runs) {
  const node = element("article", "card");
  const images = element("div", "images");
  for (const key of example.images) {
    const image = element("img");
    image.src = page.images[key];
    image.alt = key;
    image.loading = "lazy";
    images.append(image);
  }
  if (example.images.length) node.append(images);
  node.append(element("div", "question", example.question));
  const label = element("div", "label");
  label.append(element("span", "small", "label (" + example.answer_type + ")  "), example.label);
  node.append(label);
  example.answers.forEach((answer, i) => node.append(answerNode(runs[i], answer)));
  node.append(element("div", "small", example.id));
  return node;
}

function draw() {
  const data = benchmark();
  const found = data.examples.filter(matches);
  const rest = data.n_answered > data.examples.length ? " (a sample of " + data.n_answered + ")" : "";
  byId("count").textContent = found.length + " of " + data.examples.length + " examples" + rest;
  byId("cards").replaceChildren(...found.slice(0, shown).map((example) => card(example, data.runs)));
  byId("more").hidden = found.length <= shown;
}

// The filters are in the address, so that a view can be kept and passed on: "#wrong=1&text=lung".
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  for (const name of controls) {
    if (!wanted.has(name)) continue;
    if (control[name].type === "checkbox") control[name].checked = wanted.get(name) === "1";
    else control[name].value = wanted.get(name);
    if (name === "benchmark") fillTypes();
  }
}

function writeAddress() {
  const view = new URLSearchParams();
  for (const name of controls) {
    const value = control[name].type === "checkbox" ? (control[name].checked ? "1" : "") : control[name].value;
    if (value && !(name === "benchmark" && value === "0")) view.set(name, value);
  }
  history.replaceState(null, "", "#" + view);
}

fill(control.benchmark, page.benchmarks.map((data, i) => [i, data.name]));
if (page.benchmarks.length) {
  fillTypes();
  readAddress();
  draw();
}
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", (event) => {
  shown = PAGE;
  if (event.target === control.benchmark) fillTypes();
  writeAddress();
  draw();
});
byId("more").addEventListener("click", () => {
  shown += PAGE;
  draw();
});
