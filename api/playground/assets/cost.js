// Where the milliseconds and the tokens went, and what came from the cache.

import { el, figure, milliseconds, plural, scrolling, section, stageName } from "./dom.js";

export function cost(trace) {
  const stages = trace.stages;
  const known = stages.reduce((sum, one) => sum + one.time_ms, 0);
  const rows = [...stages];
  const rest = trace.total_time_ms - known;
  if (rest > 0.02 * trace.total_time_ms) rows.push({ stage: "elsewhere", time_ms: rest, tokens: 0, quiet: true });
  const longest = Math.max(...rows.map((one) => one.time_ms), 1e-9);
  const most = Math.max(...rows.map((one) => one.tokens + (one.reused || 0)), 1);
  const head = ["Stage", "Time", "In → out", "Tokens"].map((title) => el("th", { scope: "col" }, title));
  const table = el("table", { class: "cost" }, el("caption", { class: "hidden" }, "Time and tokens by stage"),
    el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows.map((one) => row(one, longest, most))));
  const said = `${milliseconds(trace.total_time_ms)} in all, collection ${trace.collection} version ${trace.version}`;
  return section("Time and tokens", "costs", el("p", { class: "hint" }, said), scrolling("Time and tokens by stage", table),
    cached(stages), notes(stages));
}

function row(one, longest, most) {
  const went = one.n_out === undefined ? "" : `${one.n_in ?? "all"} → ${one.n_out}`;
  return el("tr", { class: one.quiet ? "rest" : null }, el("th", { scope: "row" }, stageName(one.stage)),
    el("td", {}, bar(one.time_ms / longest), el("span", { class: "value" }, milliseconds(one.time_ms))),
    el("td", { class: "figure" }, went),
    el("td", {}, one.tokens || one.reused ? [bar(one.tokens / most, (one.reused || 0) / most),
      el("span", { class: "value" }, tokens(one))] : ""));
}

function bar(share, saved = 0) {
  const full = el("span", { class: "bar" });
  const rest = el("span", { class: "bar saved" });
  full.style.width = `${Math.max(1, Math.round(90 * share))}px`;
  rest.style.width = `${Math.round(90 * saved)}px`;
  return el("span", { class: "bars", "aria-hidden": "true" }, full, saved ? rest : null);
}

function tokens(one) {
  const parts = [`${figure(one.tokens)} read`];
  if (one.decoded) parts.push(`${figure(one.decoded)} written`);
  if (one.reused) parts.push(`${figure(one.reused)} cached`);
  return parts.join(", ");
}

function cached(stages) {
  const used = stages.filter((one) => one.cache_mode);
  if (!used.length) return el("p", { class: "hint" }, "No stage reused cached states of passages.");
  const said = used.map((one) => `${stageName(one.stage)} reused ${plural(one.reused, "token")} (${one.cache_mode}), `
    + `${figure(100 * one.recomputed)} % of the states computed again`);
  return el("p", { class: "hint" }, `From the cache: ${said.join("; ")}.`);
}

function notes(stages) {
  const said = stages.flatMap((one) => [...(one.degraded ? [one.degraded] : []), ...(one.notes || [])]
    .map((note) => el("li", {}, el("b", {}, one.stage), ` ${note}`)));
  return said.length ? el("ul", { class: "notes" }, said) : null;
}
