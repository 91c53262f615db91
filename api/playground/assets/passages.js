// Passages as cards: where each stage had them, what was quoted, and the words a model looked at.

import { el, figure, section, show, stageName } from "./dom.js";

/** Cards of results or numbered sources. `marks` are citations; `elsewhere` maps a chunk to its rank in the other run. */
export function passages(title, hits, { marks = [], elsewhere = null, attend = null } = {}) {
  const cards = new Map();
  const list = el("ol", { class: "cards", onkeydown: moved });
  hits.forEach((hit, place) => {
    const card = carded(hit, place, marks, elsewhere);
    cards.set(hit.chunk_id, card);
    list.append(card.item);
  });
  const bar = attend && hits.length ? tools(hits, cards, attend) : null;
  const nothing = hits.length ? null : el("p", { class: "empty" }, "No passage of this collection answers to that. "
    + "Fewer or other words may; a dense pipeline finds other wordings.");
  const whole = section(title, "passages", bar, nothing, list);
  return { whole, mark: (citations) => hits.forEach((hit) => cards.get(hit.chunk_id).quote(citations)), point };

  function point(number) {
    const at = hits.findIndex((hit) => hit.number === number);
    if (at < 0) return;
    const { item } = cards.get(hits[at].chunk_id);
    item.classList.remove("pointed");
    item.classList.add("pointed", "open");
    item.focus();
    item.scrollIntoView({ block: "center", behavior: calm() ? "auto" : "smooth" });
  }
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function carded(hit, place, marks, elsewhere) {
  const number = hit.number ?? hit.rank;
  const title = el("h4", { dir: "auto" }, hit.title || hit.document_id);
  const text = el("p", { class: "text", dir: "auto" });
  const more = el("button", { type: "button", class: "quiet more", "aria-expanded": "false", onclick: toggle }, "Whole passage");
  const head = el("div", { class: "head" },
    el("span", { class: "number", "aria-hidden": "true" }, String(number)),
    title,
    el("span", { class: "score", title: `${hit.score_kind}: ${hit.raw_score}` }, hit.relevance_score.toFixed(2)));
  const item = el("li", { class: "card", tabindex: place ? -1 : 0, "data-chunk": hit.chunk_id,
    "aria-label": `${number}: ${hit.title || hit.document_id}` }, head, text,
    el("div", { class: "foot" }, facts(hit, elsewhere), more));
  const card = { item, quote, attended };
  quote(marks);
  return card;

  function toggle() {
    more.setAttribute("aria-expanded", String(item.classList.toggle("open")));
  }

  function quote(citations) {
    const own = citations.filter((one) => one.chunk_id === hit.chunk_id && one.start !== null);
    show(text, quoted(hit, own));
    more.hidden = hit.text.length < 280;
  }

  function attended(tokens) {
    const words = wordsOf(tokens);
    const most = Math.max(...words.map((word) => word.score), 1e-9);
    const end = hit.title ? words.findIndex((word) => word.text.includes("\n")) : -1;
    item.classList.add("open");
    if (end > 0) show(title, words.slice(0, end).map((word) => heated(word, most)));
    show(text, words.slice(end + 1).map((word) => heated(word, most)));
    item.querySelector(".looked")?.remove();
    item.append(el("p", { class: "looked" }, looked(words)));
  }
}

/** The text with what was cited marked; offsets count code points of the document. */
function quoted(hit, citations) {
  const points = [...hit.text];
  const cuts = citations.map((one) => [Math.max(0, one.start - hit.start), Math.min(points.length, one.end - hit.start)])
    .filter(([start, end]) => start < end).sort((a, b) => a[0] - b[0]);
  const pieces = [];
  let at = 0;
  for (const [start, end] of cuts) {
    if (start < at) continue;
    pieces.push(points.slice(at, start).join(""), el("mark", {}, points.slice(start, end).join("")));
    at = end;
  }
  return [...pieces, points.slice(at).join("")];
}

function facts(hit, elsewhere) {
  const stages = (hit.explain || []).map((one) => el("li", { title: `${one.score_kind}: ${one.score}` }, `${stageName(one.stage)} `,
    el("b", {}, String(one.rank))));
  if (elsewhere) {
    const other = elsewhere.get(hit.chunk_id);
    stages.push(el("li", { class: other ? "" : "new" }, other ? ["other side ", el("b", {}, String(other))] : "only here"));
  }
  return el("ul", { class: "facts", "aria-label": "Rank by stage" }, el("li", { class: "id" }, hit.chunk_id), stages);
}

function tools(hits, cards, attend) {
  const said = el("span", { role: "status" });
  const button = el("button", { type: "button", onclick: async () => {
    button.disabled = true;
    show(said, "The model reads them…");
    try {
      const found = await attend(hits.slice(0, 10));
      for (const one of found) cards.get(one.id)?.attended(one.tokens || []);
      show(said, "The stronger its colour, the more a word added to the score of its passage.");
    } catch (error) {
      show(said, error.name === "AbortError" ? "" : `${error.message} ${error.todo || ""}`);
      button.disabled = false;
    }
  } }, "Words the model attended to");
  return el("div", { class: "tools" }, button, said);
}

/** Tokens put together to words; the label in front of the passage is left out. */
export function wordsOf(tokens) {
  const label = tokens.findIndex((token) => token.text.includes("]"));
  const own = label >= 0 && label < 5 ? tokens.slice(label + 1) : tokens;
  const words = [];
  for (const token of own) {
    const last = words[words.length - 1];
    if (!last || /^\s/.test(token.text) || /\s$/.test(last.text)) words.push({ ...token });
    else {
      last.text += token.text;
      last.score += token.score;
    }
  }
  return words;
}

function heated(word, most) {
  const share = word.score / most;
  if (share < 0.05) return word.text;
  const level = Math.min(5, Math.ceil(5 * share));
  const space = /^\s/.test(word.text) ? " " : "";
  return [space, el("span", { class: `heat heat-${level}`, title: `adds ${figure(word.score)}` }, word.text.trim())];
}

const bare = (text) => text.trim().replace(/^\p{P}+(?=.)|(?<=.)\p{P}+$/gu, "");

function looked(words) {
  const best = [...words].filter((word) => word.score > 0).sort((a, b) => b.score - a.score).slice(0, 5);
  if (!best.length) return "The model looked at no word of this passage more than it would for an empty question.";
  return `Most attended: ${best.map((word) => `${bare(word.text)} (${figure(word.score)})`).join(", ")}`;
}

/** Arrow keys, Home and End move between cards. */
function moved(event) {
  const cards = [...event.currentTarget.children];
  const at = cards.indexOf(event.target);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: cards.length - 1 }[event.key];
  if (at < 0 || to === undefined || !cards[to]) return;
  event.preventDefault();
  cards[at].tabIndex = -1;
  cards[to].tabIndex = 0;
  cards[to].focus();
}
