// The answer, and the places its numbers point at.

import { el, section, show } from "./dom.js";

/** A section that grows while the answer is written. `point(number)` is called for a citation that is followed. */
export function answering(point) {
  const text = el("p", { class: "text", dir: "auto" });
  const notes = el("div", { class: "notes" });
  const whole = section("Answer", "answer", text, notes);
  let written = "";
  return {
    whole,
    add(piece) {
      written += piece;
      show(text, written, el("span", { class: "caret", "aria-hidden": "true" }));
    },
    finish(said, citations) {
      show(text, cited(said.answer, citations, point));
      text.classList.toggle("absent", !said.found);
      const by = said.generator ? [`Written by ${said.generator}.`] : [];
      show(notes, [...by, ...said.notes, ...said.degraded].map((note) => el("p", {}, note)));
    },
    broken(message) {
      show(notes, el("p", { class: "problem" }, message));
    },
  };
}

function cited(text, citations, point) {
  const known = new Set(citations.map((one) => one.number));
  return text.split(/(\[\d+\])/).map((piece) => {
    const number = /^\[\d+\]$/.test(piece) ? Number(piece.slice(1, -1)) : 0;
    if (!known.has(number)) return piece;
    return el("button", { type: "button", class: "cite", "aria-label": `Source ${number}`, onclick: () => point(number) },
      String(number));
  });
}
