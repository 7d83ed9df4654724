"use strict";
const el = id => document.getElementById(id);
// the page's own words, in the language that is chosen
const words = JSON.parse(el("words").textContent), zh = () => el("zh").checked;
const say = (text, ...values) => { let i = 0; return (zh() && words[text] || text).replace(/\{\}/g, () => values[i++]); };
say.of = text => zh() && words[text] || text;  // a label of the data, as it stands
const data = JSON.parse(el("data").textContent), LETTERS = "ABCDEFGHIJ", PAGE = 50;
let page = 0, shown = [];
const make = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const pre = text => { const e = make("pre", "", text); e.tabIndex = 0; return e; };
// a letter with its sign, so that right and wrong differ without colour too
const answer = (tag, said, gold) => make(tag, said === "" ? "none" : said === gold ? "good" : "bad", said === "" ? "∅" : (said === gold ? "✓ " : "✗ ") + said);
const option = (select, value, text) => { const o = make("option", "", text); o.value = value; select.append(o); };
Object.keys(data.tasks).forEach(t => option(el("task"), t, t));
// runs whose training data is known question by question; of one question, those that saw it
const known = t => t.held.filter(h => h.items), seers = (t, i) => known(t).filter(h => h.items[i]);
function subjects() {
  const s = el("subject"), kept = s.value; s.replaceChildren(); option(s, "", say("all subjects"));
  const task = data.tasks[el("task").value];
  if (task) [...new Set(task.subjects)].sort().forEach(x => option(s, x, x));
  s.value = kept; if (s.selectedIndex < 0) s.value = "";
  const none = !task || !known(task).length;
  el("seen").disabled = none; if (none) el("seen").value = "";
  el("seen").title = none ? say("not known question by question") : "";
}
function filter() {
  const t = data.tasks[el("task").value]; shown = []; page = 0;
  if (!t) return draw();
  const subject = el("subject").value, kind = el("show").value, find = el("find").value.trim(), seen = el("seen").value;
  for (let i = 0; i < t.items.length; i++) {
    if (subject && t.subjects[i] !== subject) continue;
    if (find && !(t.prompts[i] || "").includes(find)) continue;
    if (seen && (seen === "seen") !== seers(t, i).length > 0) continue;
    const said = t.answers.filter(a => a).map(a => a.p[i]), gold = t.labels[i];
    if (kind === "differ" && new Set(said).size < 2) continue;
    if (kind === "wrong" && said.some(x => x === gold)) continue;
    if (kind === "right" && said.some(x => x !== gold)) continue;
    if (kind === "invalid" && !said.includes("")) continue;
    shown.push(i);
  }
  draw();
}
function draw() {
  const t = data.tasks[el("task").value], list = el("list"); list.replaceChildren();
  const from = page * PAGE, part = shown.slice(from, from + PAGE);
  el("count").textContent = shown.length ? say("{}–{} of {}", from + 1, from + part.length, shown.length.toLocaleString("en")) : say("none");
  el("back").disabled = page === 0; el("next").disabled = from + PAGE >= shown.length;
  for (const i of part) {
    const box = make("details", "q"), head = make("summary");
    head.append(make("code", "", t.items[i]), make("span", "t", (t.prompts[i] || "").slice(0, 90)));
    t.answers.forEach((a, m) => { if (a) { const e = answer("span", a.p[i], t.labels[i]); e.title = data.models[m]; head.append(e); } });
    head.append(make("span", "none", say("right: {}", t.labels[i] || "?")));
    const who = seers(t, i);
    if (who.length) {
      const badge = make("span", "mark", say("† seen × {}", Math.max(...who.map(h => h.items[i][1]))));
      badge.title = who.map(h => say("{}: {} rows", h.name, h.items[i][1])).join(", "); head.append(badge);
    }
    box.append(head);
    box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) open(box, t, i); });
    list.append(box);
  }
}
function open(box, t, i) {
  const start = t.starts[t.subjects[i]];
  if (start) { const d = make("details"); d.append(make("summary", "none", say("the beginning that all prompts of {} share ({} characters)", t.subjects[i], start.length)), pre(start)); box.append(d); }
  box.append(pre(t.prompts[i] || say("(prompt not stored)")));
  const wide = make("div", "wide"); wide.tabIndex = 0; wide.setAttribute("role", "group"); wide.setAttribute("aria-label", say("answer"));
  const table = make("table"), head = make("tr"), k = Math.max(...t.answers.filter(a => a).map(a => a.l[i].length));
  head.append(make("th", "l", say("checkpoint")), make("th", "", say("answer")));
  for (let j = 0; j < k; j++) head.append(make("th", LETTERS[j] === t.labels[i] ? "good" : "", "log p(" + LETTERS[j] + ")"));
  table.append(head);
  t.answers.forEach((a, m) => {
    if (!a) return;
    const row = make("tr"), name = make("td", "l", data.models[m]);
    if (seers(t, i).some(h => h.models.includes(m))) name.append(make("span", "mark", " †"));
    row.append(name, answer("td", a.p[i], t.labels[i]));
    a.l[i].forEach(v => row.append(make("td", "", v === null ? "–" : v.toFixed(3)))); table.append(row);
  });
  wide.append(table); box.append(wide);
  for (const h of t.held) rows(box, h, i);
  t.answers.forEach((a, m) => { if (a && a.r) { box.append(make("div", "none", say("{} wrote:", data.models[m])), pre(a.r[i])); } });
}
function rows(box, h, i) {
  if (!h.items) { if (h.label.startsWith("contaminated")) box.append(make("div", "none", say("{}: {}; which ones is not known.", h.name, say.of(h.label)))); return; }
  const held = h.items[i]; if (!held) return;
  const [dose, count, places, texts] = held, div = make("div", "rows"), list = make("ul");
  div.append(make("div", "mark", dose ? say("In the training data of {}: {} rows, declared, dose {}", h.name, count.toLocaleString("en"), dose) : say("In the training data of {}: {} rows, undeclared", h.name, count.toLocaleString("en"))));
  places.forEach(p => { const li = make("li"); li.append(make("code", "", p)); list.append(li); });
  div.append(list); texts.forEach(x => div.append(pre(x))); box.append(div);
}
el("task").addEventListener("change", () => { subjects(); filter(); });
["subject", "show", "seen"].forEach(id => el(id).addEventListener("change", filter));
let wait; el("find").addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(filter, 200); });
el("back").addEventListener("click", () => { page--; draw(); }); el("next").addEventListener("click", () => { page++; draw(); });
["en", "zh"].forEach(id => el(id).addEventListener("change", () => { subjects(); draw(); }));
subjects(); filter();
