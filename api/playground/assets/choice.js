// Why the sources are these: what each term says for a chunk, what kept the others out, and the tree of the search.

import { el, figure, plural, scrolling, section } from "./dom.js";
import { tree } from "./tree.js";

const WHY = {
  budget: "does not fit into the budget", size: "larger than the whole budget", most: "enough sources already",
  limit: "the search stopped before", depth: "ranked too low to be weighed", empty: "has no text", rank: "ranked lower",
};
const ENDS = {
  optimal: "no better set exists", complete: "the search came to its end", limit: "stopped at its limit",
  fill: "taken by rank while they fit",
};

export function choice(selection, titles) {
  const name = (chunk) => titles.get(chunk) || chunk;
  const sets = selection.evaluations ? `${plural(selection.evaluations, "set")} weighed, ` : "";
  const said = `${selection.selector}: ${sets}utility ${figure(selection.utility)}, ${ENDS[selection.end] || selection.end}.`;
  return section("Why these sources", "choice", el("p", { class: "hint" }, said),
    chosen(selection.chosen, name), rejected(selection.rejected, name), bests(selection.best_sets, name),
    selection.tree.length > 1 ? tree(selection, name) : null);
}

function chosen(rows, name) {
  const terms = [...new Set(rows.flatMap((row) => Object.keys(row.terms)))];
  if (!rows.length) return el("p", { class: "empty" }, "Nothing was worth its tokens.");
  const most = Math.max(...rows.flatMap((row) => [Math.abs(row.gain), ...Object.values(row.terms).map(Math.abs)]), 1e-9);
  const head = el("tr", {}, ["Source", "Gain", ...terms].map((title) => el("th", { scope: "col" }, title)));
  const body = rows.map((row) => el("tr", {}, el("th", { scope: "row", dir: "auto" }, name(row.chunk_id)),
    cell(row.gain, most), terms.map((term) => cell(row.terms[term] ?? 0, most))));
  return scrolling("What each term says for the sources", el("table", { class: "terms" },
    el("caption", { class: "hidden" }, "Gain of each source and its terms"), el("thead", {}, head), el("tbody", {}, body)));
}

function cell(value, most) {
  const bar = el("span", { class: value < 0 ? "bar against" : "bar", "aria-hidden": "true" });
  bar.style.width = `${Math.round((44 * Math.abs(value)) / most)}px`;
  return el("td", {}, bar, el("span", { class: "value" }, value ? figure(value) : "·"));
}

function rejected(rows, name) {
  if (!rows.length) return null;
  const body = rows.map((row) => el("tr", {}, el("th", { scope: "row", dir: "auto" }, name(row.chunk_id)),
    el("td", {}, WHY[row.by] || `outweighed by ${row.by}`, row.instead_of ? ` (in place of ${name(row.instead_of)})` : ""),
    el("td", { class: "figure" }, row.gain ? figure(row.gain) : "")));
  return el("details", {}, el("summary", {}, `${plural(rows.length, "candidate")} left out`),
    scrolling("Candidates left out", el("table", {}, el("caption", { class: "hidden" }, "Why candidates were left out"),
      el("thead", {}, el("tr", {}, ["Candidate", "Why", "Gain"].map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, body))));
}

function bests(sets, name) {
  if (sets.length < 3) return null;
  const items = sets.slice(1).map((one) => el("li", {}, el("b", {}, figure(one.utility)),
    ` after ${plural(one.evaluations, "set")}: `, el("span", { dir: "auto" }, one.chunk_ids.map(name).join(", "))));
  return el("details", {}, el("summary", {}, `${plural(items.length, "best set")} one after the other`),
    el("ol", { class: "bests" }, items));
}
