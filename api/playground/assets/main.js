// The page: what is chosen, what runs, and what is said about it.

import { documents, jobs } from "./documents.js";
import { byId, el, show } from "./dom.js";
import * as place from "./place.js";
import { run } from "./run.js";
import { Failure, json, key } from "./server.js";
import { between } from "./stages.js";

const SELECTORS = ["budget", "search", "mmr", "greedy", "beam", "local", "mcts", "exact"];
const known = { collections: [], pipelines: null };
let running = null;

const field = (name) => byId(name).value;
const mode = () => document.querySelector("input[name=mode]:checked").value;

function asked() {
  return { query: field("query").trim(), mode: mode(), collection: field("collection"), pipeline: field("pipeline"),
    versus: field("versus"), selector: mode() === "ask" ? field("selector") : "", budget: field("budget"),
    k: Number(field("k")) || 10 };
}

// --- choices ---

async function load() {
  const [collections, pipelines] = await Promise.all([json("/v1/collections"), json("/v1/pipelines")]);
  known.collections = collections.collections;
  known.pipelines = pipelines;
  const names = [...known.collections.map((one) => one.name), ...Object.keys(collections.aliases).sort()];
  options("collection", names.map((name) => [name, labelOf(name)]));
  options("pipeline", pipelines.pipelines.map((one) => [one.name, one.name]));
  options("versus", [["", "nothing"], ...pipelines.pipelines.map((one) => [one.name, one.name])]);
  options("selector", [["", "pipeline's own"], ...SELECTORS.map((name) => [name, name])]);
  show(byId("names"), names.map((name) => el("option", { value: name })));
  return names;
}

function labelOf(name) {
  const one = known.collections.find((each) => each.name === name);
  if (!one) return name;
  return one.status === "ok" ? `${name} (${one.documents.toLocaleString("en")})` : `${name} (damaged)`;
}

function options(id, pairs) {
  const chosen = field(id);
  show(byId(id), pairs.map(([value, text]) => el("option", { value }, text)));
  if (pairs.some(([value]) => value === chosen)) byId(id).value = chosen;
}

function choose(wanted) {
  for (const radio of document.getElementsByName("mode")) radio.checked = radio.value === (wanted.mode || "ask");
  for (const name of ["query", "collection", "pipeline", "versus", "selector", "budget", "k"]) {
    const box = byId(name);
    if (wanted[name] === undefined) continue;
    if (box.tagName !== "SELECT" || [...box.options].some((one) => one.value === wanted[name])) box.value = wanted[name];
  }
  if (!wanted.pipeline) ownPipeline();
  modeChanged();
}

const ownPipeline = () => (byId("pipeline").value = mode() === "ask" ? known.pipelines.answer : known.pipelines.search);

function modeChanged() {
  const asks = mode() === "ask";
  byId("go").textContent = asks ? "Ask" : "Search";
  for (const node of document.querySelectorAll(".asking")) node.hidden = !asks;
}

// --- running ---

async function go() {
  const wanted = asked();
  running?.abort();
  show(byId("alert"));
  if (!wanted.query || !wanted.collection) return;
  running = new AbortController();
  const { signal } = running;
  const pipelines = wanted.versus ? [wanted.pipeline, wanted.versus] : [wanted.pipeline];
  const columns = pipelines.map((name) => el("div", { class: "run", role: "group", "aria-label": `Pipeline ${name}` }));
  byId("results").className = pipelines.length > 1 ? "two" : "one";
  byId("results").setAttribute("aria-busy", "true");
  show(byId("results"), columns);
  say(wanted.mode === "ask" ? "Looks for sources…" : "Searches…");
  const reranker = known.pipelines.rerankers.find((one) => one.kind === "icr" && one.ready)?.name;
  const done = await Promise.all(columns.map(async (column, i) => {
    try {
      return await run(column, { ...wanted, pipeline: pipelines[i] }, signal, reranker);
    } catch (error) {
      if (signal.aborted) return null;
      show(column, el("h2", { class: "title" }, pipelines[i]), problem(error));
      return { hits: [], said: error.message };
    }
  }));
  if (signal.aborted) return;
  byId("results").removeAttribute("aria-busy");
  if (done.length > 1) compared(done, pipelines);
  say(done.map((one, i) => (done.length > 1 ? `${pipelines[i]}: ${one.said}` : one.said)).join(" · "));
}

function compared([left, right], names) {
  const ranks = (side) => new Map(side.hits.map((hit, i) => [hit.chunk_id, i + 1]));
  left.compare?.(ranks(right));
  right.compare?.(ranks(left));
  const both = left.hits.filter((hit) => ranks(right).has(hit.chunk_id)).length;
  if (left.hits.length && right.hits.length) {
    const orders = [left, right].map((side, i) => ({ name: names[i], hits: side.hits }));
    byId("results").append(el("div", { class: "across" }, between(orders)));
  }
  right.said += ` · ${both} of ${Math.max(left.hits.length, right.hits.length)} in both`;
}

function problem(error) {
  if (!(error instanceof Failure)) console.error(error);
  const todo = error.todo || "Reload the page; if it happens again, it is a fault of the page.";
  return el("div", { class: "problem" }, el("p", {}, error.message), el("p", {}, todo));
}

const say = (text) => show(byId("status"), text);

function stop() {
  if (!running || running.signal.aborted || !byId("results").hasAttribute("aria-busy")) return;
  running.abort();
  byId("results").removeAttribute("aria-busy");
  say("Stopped.");
}

// --- the page ---

async function begin() {
  byId("server").hidden = Boolean(key.get()); // links send no key
  try {
    const names = await load();
    choose(place.read());
    show(byId("alert"));
    if (!names.length) return nothingYet();
    if (!byId("results").childElementCount) welcome();
    jobs(changed).catch(() => {}); // a key that may only search is no trouble
    await go();
  } catch (error) {
    show(byId("alert"), problem(error));
    if (error.status === 401 || error.status === 403) byId("key-box").open = byId("server").hidden = true;
  }
}

function welcome() {
  show(byId("results"), el("div", { class: "welcome" }, el("p", {}, "Ask a question to get an answer with its sources, or search for "
    + "passages. Below them stands what every stage did: the order it gave, the time it took, the tokens a model read."),
    el("p", {}, "Choose a second pipeline under ", el("b", {}, "Compare with"), " to see two side by side.")));
}

function nothingYet() {
  show(byId("results"), el("div", { class: "welcome" }, el("p", {}, el("b", {}, "No collection yet.")),
    el("p", {}, "Add documents below, or on the server: ", el("code", {}, "kvasir index NAME FOLDER"))));
  byId("add-box").open = true;
}

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function themed() {
  byId("theme").textContent = dark() ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", dark() ? "Switch to light colours" : "Switch to dark colours");
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  place.write(asked());
  go();
});
for (const radio of document.getElementsByName("mode")) {
  radio.addEventListener("change", () => {
    modeChanged();
    ownPipeline();
  });
}
byId("theme").addEventListener("click", () => {
  const next = dark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("kvasir-theme", next);
  themed();
});
byId("key").value = key.get();
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(field("key").trim());
  byId("key-box").open = false;
  begin();
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("results").focus();
});
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId("query").select();
    byId("query").focus();
  }
  if (event.key === "Escape") stop();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed);
addEventListener("popstate", () => {
  choose(place.read());
  go();
});
async function changed(name) {
  await load();
  byId("collection").value = name;
}

documents(changed);
themed();
begin();
