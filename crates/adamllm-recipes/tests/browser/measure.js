"use strict";
// Opens each page at each width in a frame, and writes what it finds there as JSON.
const [pages, widths] = JSON.parse(document.getElementById("wanted").textContent);

const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function rgba(color) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}

function luminance([r, g, b]) {
  const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}

// The colour below a text: the nearest grounds, laid over each other.
function ground(view, node) {
  const layers = [];
  for (let at = node; at; at = at.parentElement) {
    const layer = rgba(view.getComputedStyle(at).backgroundColor);
    if (layer[3] > 0) layers.push(layer);
    if (layer[3] === 255) break;
  }
  return layers.reverse().reduce((under, [r, g, b, a]) => [r, g, b].map((v, i) => (v * a + under[i] * (255 - a)) / 255), [255, 255, 255]);
}

function contrasts(view) {
  const doc = view.document;
  const walker = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
  let worst = { ratio: 99, text: "" };
  let n = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const node = walker.currentNode.parentElement;
    if (!text || ["SCRIPT", "STYLE", "OPTION"].includes(node.tagName) || !node.checkVisibility()) continue;
    const style = view.getComputedStyle(node);
    const ink = luminance(rgba(node.namespaceURI.endsWith("svg") ? style.fill : style.color));
    const paper = luminance(ground(view, node));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    n += 1;
    if (ratio < worst.ratio) worst = { ratio, text: text.slice(0, 60) };
  }
  return { n, ...worst };
}

// What of the page is wider than it, without scrolling in a box of its own.
function widest(doc, width) {
  for (const node of doc.body.querySelectorAll("*")) {
    if (node.getBoundingClientRect().right > width + 1 && !node.closest("table, dd")) return node.tagName + "." + node.className;
  }
  return "";
}

// Every choice of every filter: its words, and how many cards it leaves visible.
function filters(doc) {
  const visible = () => [...doc.querySelectorAll("article")].filter((card) => card.checkVisibility()).length;
  const found = [];
  for (const select of doc.querySelectorAll("select")) {
    for (const option of [...select.options]) {
      select.value = option.value;
      select.dispatchEvent(new Event("input", { bubbles: true }));
      const cards = select.dataset.cards && doc.getElementById(select.dataset.cards);
      const n = cards ? [...cards.children].filter((card) => card.checkVisibility()).length : visible();
      found.push({ id: select.dataset.cards || select.id, value: option.value, text: option.text, n });
    }
    select.selectedIndex = 0;
    select.dispatchEvent(new Event("input", { bubbles: true }));
  }
  return found;
}

async function measure(page, width) {
  const frame = document.createElement("iframe");
  frame.style = `border: 0; width: ${width}px; height: 1200px`;
  frame.src = page;
  document.body.append(frame);
  await new Promise((loaded) => frame.addEventListener("load", loaded));
  const view = frame.contentWindow, doc = frame.contentDocument;
  const measured = {
    page, width, dark: view.matchMedia("(prefers-color-scheme: dark)").matches, title: doc.title,
    overflow: doc.documentElement.scrollWidth - width, widest: widest(doc, width), contrast: contrasts(view), filters: filters(doc),
    links: [...doc.querySelectorAll(".links a")].map((link) => link.getAttribute("href")),
    images: [...doc.images].filter((image) => image.checkVisibility()).length,
  };
  frame.remove();
  return measured;
}

(async () => {
  const all = [];
  for (const page of pages) for (const width of widths) all.push(await measure(page, width));
  document.getElementById("found").textContent = btoa(unescape(encodeURIComponent(JSON.stringify(all))));
})();
