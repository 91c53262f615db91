// The search tree, drawn from the root on the left: a node is a set, larger the more often the search came through.

import { el, figure, plural, scrolling, svg } from "./dom.js";

const MOST = 40;
const STEP = 150;
const ROW = 17;

export function tree(selection, name) {
  const nodes = kept(selection.tree);
  const best = wayTo(nodes, selection.utility);
  const rows = placed(nodes);
  const depth = Math.max(...nodes.map((node) => node.depth));
  const [width, height] = [STEP * (depth + 1) + 40, ROW * rows + 16];
  const label = `Search tree: ${plural(selection.tree.length, "set")}, the ${nodes.length} most visited drawn. `
    + `The best has utility ${figure(selection.utility)}: ${pathOf(best, name)}.`;
  const picture = svg("svg", { class: "tree", width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": label }, nodes.map((node) => edge(node, best)), nodes.map((node) => dot(node, best, name)));
  return el("figure", {}, el("h4", {}, "Search tree"), scrolling("Search tree", picture), el("figcaption", {}, label));
}

/** The most visited nodes. No node is visited more often than its parent, so parents stay. */
export function kept(branches) {
  const order = branches.map((_, i) => i).sort((a, b) => branches[b].visits - branches[a].visits || a - b);
  const chosen = new Set(order.slice(0, MOST));
  for (const i of [...chosen]) for (let up = branches[i].parent; up >= 0; up = branches[up].parent) chosen.add(up);
  const made = new Map();
  for (const i of [...chosen].sort((a, b) => a - b)) {
    const above = made.get(branches[i].parent) || null;
    const node = { ...branches[i], above, below: [], depth: above ? above.depth + 1 : 0 };
    above?.below.push(node);
    made.set(i, node);
  }
  return [...made.values()];
}

/** Rows for the leaves from top to bottom, a parent in the middle of its own; returns how many rows. */
function placed(nodes) {
  let rows = 0;
  const visit = (node) => {
    node.below.sort((a, b) => b.best - a.best);
    node.below.forEach(visit);
    const [first, last] = [node.below[0], node.below[node.below.length - 1]];
    node.row = first ? (first.row + last.row) / 2 : rows++;
  };
  visit(nodes[0]);
  return rows;
}

/** Nodes from the root to the set that is nearest to the utility. */
function wayTo(nodes, utility) {
  let node = nodes.reduce((a, b) => (Math.abs(b.utility - utility) < Math.abs(a.utility - utility) ? b : a));
  const way = new Set();
  for (; node; node = node.above) way.add(node);
  return way;
}

const pathOf = (way, name) => [...way].reverse().filter((node) => node.added).map((node) => name(node.added)).join(", ");
const x = (node) => 14 + STEP * node.depth;
const y = (node) => 8 + ROW * (node.row + 0.5);

function edge(node, best) {
  if (!node.above) return null;
  const middle = x(node) - STEP / 2;
  return svg("path", { class: best.has(node) ? "edge best" : "edge",
    d: `M${x(node.above)} ${y(node.above)}C${middle} ${y(node.above)} ${middle} ${y(node)} ${x(node)} ${y(node)}` });
}

function dot(node, best, name) {
  const radius = Math.min(9, 2.5 + Math.sqrt(node.visits) * 0.7);
  const on = best.has(node);
  const said = `${node.added ? `with ${name(node.added)}` : "the empty set"}: utility ${figure(node.utility)}, `
    + `best below ${figure(node.best)}, ${plural(node.visits, "visit")}`;
  const above = on && node.below.length;
  const at = above ? { x: x(node), y: y(node) - radius - 4, "text-anchor": "middle" } : { x: x(node) + radius + 4, y: y(node) + 4 };
  const text = node.added && (on || node.depth === 1) ? svg("text", at, short(name(node.added))) : null;
  return svg("g", { class: on ? "node best" : "node" }, svg("title", {}, said),
    svg("circle", { cx: x(node), cy: y(node), r: radius }), text);
}

const short = (text) => (text.length > 18 ? `${[...text].slice(0, 17).join("")}…` : text);
