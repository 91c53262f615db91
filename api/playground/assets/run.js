// One question to one pipeline: what is asked of the server, and the column it is shown in.

import { answering } from "./answer.js";
import { choice } from "./choice.js";
import { cost } from "./cost.js";
import { el, milliseconds, plural, show } from "./dom.js";
import { passages } from "./passages.js";
import { Failure, call, events, json } from "./server.js";
import { stages } from "./stages.js";

const CANDIDATES = 30;

/** Fills the column; returns { hits, said } for the line of status. Raises Failure. */
export async function run(column, asked, signal, attending) {
  const main = el("div", { class: "main" });
  const side = el("div", { class: "side" });
  const below = el("div", { class: "below" });
  show(column, el("h2", { class: "title" }, asked.pipeline), el("div", { class: "parts" }, main, side), below);
  const parts = { main, side, below, attend: attendingTo(asked, signal, attending) };
  return asked.mode === "ask" ? asking(parts, asked, signal) : searching(parts, asked, signal);
}

const search = (asked, k, signal) => json("/v1/search", { signal, body: {
  collection: asked.collection, query: asked.query, pipeline: asked.pipeline, k, explain: true } });

async function searching(parts, asked, signal) {
  const found = await search(asked, Math.max(asked.k, CANDIDATES), signal);
  const shown = found.results.slice(0, asked.k);
  const draw = (elsewhere) => show(parts.main, passages("Passages", shown, { elsewhere, attend: parts.attend }).whole);
  draw(null);
  show(parts.side, cost(found.trace));
  show(parts.below, stages(found.results));
  return { hits: shown, compare: draw, said: `${plural(shown.length, "passage")} in ${milliseconds(found.trace.total_time_ms)}` };
}

async function asking(parts, asked, signal) {
  const body = { collection: asked.collection, question: asked.query, pipeline: asked.pipeline, k: Math.max(asked.k, 10),
    stream: true, explain: true };
  if (asked.selector) body.selector = asked.selector;
  if (asked.budget !== "") body.budget = Number(asked.budget);
  if (asked.selector && asked.selector !== "budget") delete body.k;
  const response = await call("/v1/answer", { body, signal });
  const seen = { sources: [], citations: [], trace: null, said: null, selection: null };
  let cards = null;
  const answer = answering((number) => cards?.point(number));
  for await (const [name, data] of events(response)) {
    if (name === "error") throw new Failure(data.detail, "The answer broke off. Try again, or choose another pipeline.", data.status);
    if (name === "token") answer.add(data.text);
    if (name === "sources") {
      seen.sources = data.sources;
      cards = passages("Sources", seen.sources, { attend: parts.attend });
      show(parts.main, answer.whole, cards.whole);
    }
    if (name === "selection") seen.selection = data.selection;
    if (name === "citations") seen.citations = data.citations;
    if (name === "answer") seen.said = data;
    if (name === "usage") seen.trace = data.trace;
  }
  if (!seen.said || !seen.trace) throw new Failure("The answer broke off.", "Try again.");
  answer.finish(seen.said, seen.citations);
  cards.mark(seen.citations);
  show(parts.side, cost(seen.trace));
  await candidates(parts, asked, seen, signal);
  const said = seen.said.found ? `Answer from ${plural(seen.sources.length, "source")}` : "No answer found";
  return { hits: seen.sources, said: `${said} in ${milliseconds(seen.trace.total_time_ms)}` };
}

/** The candidates as a search gives them: the stages before the sources, and the titles of what was left out. */
async function candidates(parts, asked, seen, signal) {
  const found = await search(asked, CANDIDATES, signal);
  const titles = new Map([...found.results, ...seen.sources].map((one) => [one.chunk_id, one.title || one.document_id]));
  show(parts.below, stages(found.results, seen.sources), seen.selection ? choice(seen.selection, titles) : null);
}

/** Asks which words of passages an attention reranker looked at; null where the server has none. */
function attendingTo(asked, signal, reranker) {
  if (!reranker) return null;
  return async (hits) => {
    const documents = hits.map((hit) => ({ id: hit.chunk_id, title: hit.title, text: hit.text }));
    const found = await json("/v1/rerank", { signal, body: { model: reranker, query: asked.query, documents, explain_tokens: true } });
    return found.results;
  };
}
