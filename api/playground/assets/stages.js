// The order of the passages at every stage, side by side, with a line from each place to the next.

import { el, scrolling, section, stageName, svg } from "./dom.js";

const ROW = 30;
const GAP = 56;

/** Columns of the `most` best of each stage among the hits; `sources` are the chunks of an answer in prompt order. */
export function stages(hits, sources = null, most = 12) {
  const columns = columnsOf(hits, sources, most);
  if (columns.length < 2) return null;
  const note = "The same passages in the order of every stage. Numbers are ranks among all candidates; "
    + "lines lead from one stage to the next, the best three at the end stand out.";
  return drawing("Stage by stage", note, columns);
}

/** How the order of one run becomes that of another. */
export function between(runs) {
  const columns = runs.map(({ name, hits }) => ({ name, places: hits.map((hit, i) => ({ hit, rank: i + 1 })) }));
  const note = "A passage without a line is in one of the two orders only.";
  return drawing("From one order to the other", note, columns);
}

function drawing(title, note, columns) {
  const best = new Set(columns[columns.length - 1].places.slice(0, 3).map((one) => one.hit.chunk_id));
  const chart = el("div", { class: "bump" });
  columns.forEach((column, i) => {
    if (i) chart.append(gutter(columns[i - 1].places, column.places, best));
    chart.append(drawn(column, best, chart));
  });
  return section(title, "stages", el("p", { class: "hint" }, note),
    scrolling(title, chart));
}

export function columnsOf(hits, sources, most) {
  const columns = new Map();
  for (const hit of hits) {
    for (const one of hit.explain || []) {
      if (!columns.has(one.stage)) columns.set(one.stage, []);
      columns.get(one.stage).push({ hit, rank: one.rank });
    }
  }
  const known = new Map(hits.map((hit) => [hit.chunk_id, hit]));
  if (sources) columns.set("sources", sources.map((one, i) => ({ hit: known.get(one.chunk_id) || one, rank: i + 1 })));
  return [...columns].map(([name, places]) => ({
    name: stageName(name),
    places: places.sort((a, b) => a.rank - b.rank).slice(0, most),
  }));
}

function drawn(column, best, chart) {
  const items = column.places.map(({ hit, rank }) => el("li", {
    "data-chunk": hit.chunk_id, class: best.has(hit.chunk_id) ? "best" : null, title: hit.title || hit.chunk_id,
    onmouseenter: () => lit(chart, hit.chunk_id, true), onmouseleave: () => lit(chart, hit.chunk_id, false),
  }, el("span", { class: "rank" }, String(rank)), el("span", { class: "name", dir: "auto" }, hit.title || hit.chunk_id)));
  return el("div", { class: "column" }, el("h4", {}, column.name), el("ol", { "aria-label": `Order of ${column.name}` }, items));
}

function gutter(left, right, best) {
  const height = ROW * Math.max(left.length, right.length);
  const at = new Map(right.map((one, i) => [one.hit.chunk_id, i]));
  const lines = left.flatMap((one, i) => {
    const j = at.get(one.hit.chunk_id);
    return j === undefined ? [] : [line(i, j, one.hit.chunk_id, best.has(one.hit.chunk_id))];
  }).sort((a, b) => a.best - b.best);
  return svg("svg", { class: "gutter", width: GAP, height, viewBox: `0 0 ${GAP} ${height}`, "aria-hidden": "true" },
    lines.map((one) => one.node));
}

function line(from, to, chunk, best) {
  const y1 = ROW * (from + 0.5);
  const y2 = ROW * (to + 0.5);
  const end = GAP - 7;
  const path = svg("path", { class: "way", d: `M2 ${y1}C${GAP / 2} ${y1} ${GAP / 2} ${y2} ${end} ${y2}` });
  const head = svg("path", { class: "tip", d: `M${GAP - 2} ${y2}l-7 -3.5v7z` });
  return { best, node: svg("g", { "data-chunk": chunk, class: best ? "best" : null }, path, head) };
}

function lit(chart, chunk, on) {
  for (const node of chart.querySelectorAll("[data-chunk]")) {
    if (node.dataset.chunk === chunk) node.classList.toggle("lit", on);
  }
}
