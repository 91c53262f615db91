// Elements from values. Text only ever becomes a text node: there is no way to markup in here.

const SVG = "http://www.w3.org/2000/svg";

export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

export function show(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

export const byId = (id) => document.getElementById(id);

let made = 0;
export const newId = (what) => `${what}-${++made}`;

/** A figure as people read it: 0.123, 12.3, 1,234. */
export function figure(value) {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "\u2212");
}

/** Names of stages as the literature writes them. */
const STAGES = { bm25: "BM25", dense: "dense" };
export const stageName = (name) => STAGES[name] || name;

export const milliseconds = (ms) => (ms >= 1000 ? `${figure(ms / 1000)} s` : `${figure(ms)} ms`);

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** A section with a heading that names it. */
export function section(title, kind, ...children) {
  const id = newId(kind);
  return el("section", { class: `part ${kind}`, "aria-labelledby": id }, el("h3", { id }, title), ...children);
}

/** What may be wider than the screen: it scrolls by itself, also by keyboard. */
export function scrolling(label, ...children) {
  return el("div", { class: "scrolling", tabindex: 0, role: "region", "aria-label": label }, ...children);
}
