"use strict";
// What every page can do beside being read: hand out its tables and pictures as files, and page through rows.
// Texts go in and out as text alone; nothing is fetched, nothing leaves the page but by a download that was asked for.
(() => {
const ROOT = document.documentElement, SVG = "http://www.w3.org/2000/svg";
const hidden = () => document.getElementById("zh").checked ? ".en" : ".zh";
const tidy = words => words.replace(/\s+/g, " ").trim();

// what an element says in the language that is chosen
function text(node) {
  const copy = node.cloneNode(true);
  copy.querySelectorAll(`${hidden()}, svg, button, .aside`).forEach(e => e.remove());
  copy.querySelectorAll("br, small, p, div").forEach(e => e.before(" "));
  return tidy(copy.textContent);
}
// 12,345 and −1.5 are numbers; 007, 1e9 and whatever has more digits than a number holds are words
function value(words) {
  const plain = words.replace("−", "-").replace(/(?<=\d),(?=\d{3})/g, "");
  return /^[+-]?(0|[1-9]\d{0,14})(\.\d+)?(e[+-]\d+)?$/.test(plain) ? Number(plain) : words === "–" ? null : words;
}
function table(of) {
  const rows = [...of.rows].map(row => [...row.cells].flatMap(c => [text(c), ...Array(c.colSpan - 1).fill("")]));
  const drawn = rows[0].map((_, i) => rows.every(row => !row[i]));  // columns that only hold bars
  const [columns, ...rest] = rows.map(row => row.filter((_, i) => !drawn[i]));
  return { columns, rows: rest.map(row => row.map(value)) };
}
// a cell that a spreadsheet would run as a formula is made a text of it
function cell(of) {
  let words = of === null ? "" : String(of);
  if (typeof of === "string" && /^([=@\t\r]|[+-].*[A-Za-z])/.test(words)) words = "'" + words;
  return /[",\n\r]/.test(words) ? `"${words.replaceAll('"', '""')}"` : words;
}
const csv = ({ columns, rows }) => "\ufeff" + [columns, ...rows].map(row => row.map(cell).join(",") + "\r\n").join("");
function save(about, kind, type, words) {
  const link = document.createElement("a"), name = `${document.title} ${about}`.replace(/[^\p{L}\p{N}.]+/gu, "-").replace(/^[-.]+|-+$/g, "");
  link.href = URL.createObjectURL(new Blob([words], { type }));
  link.download = `${name.slice(0, 100) || "steel"}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const element = (name, about, words) => {
  const made = document.createElementNS(SVG, name);
  Object.entries(about).forEach(([key, of]) => made.setAttribute(key, of));
  if (words !== undefined) made.textContent = words;
  return made;
};
// a chart as a file of its own: black on white, its words in one language
function alone(of) {
  const copy = of.cloneNode(true), [x, y, width, height] = of.getAttribute("viewBox").split(" ");
  copy.querySelectorAll(hidden()).forEach(e => e.remove());
  for (const e of [copy, ...copy.querySelectorAll("*")]) ["class", "data-points", "aria-label"].forEach(name => e.removeAttribute(name));
  Object.entries({ width, height, style: "color:#1d2329" }).forEach(([key, of]) => copy.setAttribute(key, of));
  copy.prepend(element("rect", { x, y, width, height, fill: "#fff" }));
  return copy;
}
// a picture made of boxes, drawn as it stands: each box that has a colour, each word at its place
function drawn(box) {
  ROOT.classList.add("paper");
  const frame = box.getBoundingClientRect(), width = Math.ceil(frame.width), height = Math.ceil(box.scrollHeight);
  const out = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "font-family": "system-ui, sans-serif" });
  out.append(element("rect", { width, height, fill: "#fff" }));
  const place = r => [(r.left - frame.left).toFixed(1), (r.top - frame.top).toFixed(1)];
  const every = document.createTreeWalker(box, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  while (every.nextNode()) {
    const node = every.currentNode;
    if (node.nodeType === 1) {
      const fill = getComputedStyle(node).backgroundColor, r = node.getBoundingClientRect(), [x, y] = place(r);
      if (r.width && r.height && !/, 0\)$/.test(fill)) out.append(element("rect", { x, y, width: r.width.toFixed(1), height: r.height.toFixed(1), fill }));
      continue;
    }
    const style = getComputedStyle(node.parentNode), size = parseFloat(style.fontSize);
    for (const word of node.data.matchAll(/\S+/g)) {
      const range = document.createRange();
      const put = (from, to) => {
        range.setStart(node, from); range.setEnd(node, to);
        const r = range.getClientRects();
        if (r.length > 1 && to - from > 1) { const half = (from + to) >> 1; put(from, half); put(half, to); return; }
        if (!r.length) return;
        const x = place(r[0])[0], y = (r[0].top - frame.top + r[0].height / 2 + size * 0.35).toFixed(1);
        out.append(element("text", { x, y, "font-size": size, "font-weight": style.fontWeight, fill: style.color }, node.data.slice(from, to)));
      };
      if (style.visibility === "visible") put(word.index, word.index + word[0].length);
    }
  }
  ROOT.classList.remove("paper");
  return out;
}

// buttons beside each table and picture
const heads = [...document.querySelectorAll("h1, h2, h3")];
function offer(after, of, kinds) {
  const bar = document.createElement("p"), head = heads.filter(h => h.compareDocumentPosition(of) & Node.DOCUMENT_POSITION_FOLLOWING).pop();
  const about = () => { const said = of.querySelector("caption"); return said ? text(said).slice(0, 60) : head ? text(head) : ""; };
  bar.className = "take";
  for (const [kind, type, make] of kinds) {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = kind.toUpperCase();
    button.setAttribute("aria-label", `${document.body.dataset.take} ${kind.toUpperCase()}`);
    button.addEventListener("click", () => save(about(), kind, type, make()));
    bar.append(button);
  }
  after.after(bar);
}
const data = make => [["csv", "text/csv", () => csv(make())], ["json", "application/json", () => JSON.stringify(make(), null, 1) + "\n"]];
const picture = make => ["svg", "image/svg+xml", () => new XMLSerializer().serializeToString(make()) + "\n"];
for (const of of document.querySelectorAll("main table, header table")) if (of.rows.length > 1) offer(of.closest(".wide") || of, of, data(() => table(of)));
for (const of of document.querySelectorAll(".chart > svg")) {
  const points = of.dataset.points, kinds = points ? data(() => JSON.parse(points)) : [];
  offer(of.parentNode, of, [...kinds, picture(() => alone(of))]);
}
for (const of of document.querySelectorAll("[data-drawn]")) offer(of, of, [...data(() => JSON.parse(of.dataset.drawn)), picture(() => drawn(of))]);

// rows that are looked through: searched, chosen by what they are, a page at a time
const plain = words => words.normalize("NFKC").toLowerCase();
for (const list of document.querySelectorAll("[data-page]")) {
  const size = Number(list.dataset.page), rows = [...list.children], bar = list.previousElementSibling;
  const find = bar.querySelector("input"), choices = [...bar.querySelectorAll("select")];
  const [back, next] = bar.querySelectorAll("button"), texts = rows.map(row => [...row.querySelectorAll(".find, .text")]);
  let found = rows, page = 0, known;
  const show = () => {
    const from = page * size, part = new Set(found.slice(from, from + size));
    rows.forEach(row => { row.hidden = !part.has(row); });
    const said = { from: found.length ? from + 1 : 0, to: from + part.size, of: found.length };
    Object.entries(said).forEach(([key, n]) => bar.querySelectorAll(`[data-n=${key}]`).forEach(e => { e.textContent = n.toLocaleString("en"); }));
    const at = document.activeElement;
    back.disabled = !page; next.disabled = from + size >= found.length;
    if (at === back && back.disabled) next.focus(); else if (at === next && next.disabled) back.focus();
  };
  const look = () => {
    known ||= texts.map(of => plain(of.map(e => e.textContent).join("\n")));
    const words = plain(find.value).split(/\s+/).filter(Boolean);
    found = rows.filter((row, i) => choices.every(c => !c.value || row.dataset[c.name] === c.value.slice(1)) && words.every(w => known[i].includes(w)));
    page = 0; show();
    if (words.length) found.forEach(row => { row.open = true; });
    mark(words, found);
  };
  const mark = (words, among) => {
    if (!window.Highlight || !CSS.highlights) return;
    const ranges = [], chosen = new Set(among);
    if (words.length) rows.forEach((row, i) => chosen.has(row) && texts[i].forEach(of => {
      const every = document.createTreeWalker(of, NodeFilter.SHOW_TEXT);
      while (every.nextNode()) {
        const node = every.currentNode, low = node.data.toLowerCase();
        if (low.length !== node.length) continue;
        for (const word of words) for (let at = low.indexOf(word); at >= 0; at = low.indexOf(word, at + word.length)) {
          const range = new Range(); range.setStart(node, at); range.setEnd(node, at + word.length); ranges.push(range);
        }
      }
    }));
    CSS.highlights.set("found", new Highlight(...ranges));
  };
  let wait;
  find.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(look, 150); });
  choices.forEach(c => c.addEventListener("change", look));
  back.addEventListener("click", () => { page--; show(); bar.scrollIntoView(); });
  next.addEventListener("click", () => { page++; show(); bar.scrollIntoView(); });
  bar.hidden = false; show();
}
})();
