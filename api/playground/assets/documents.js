// Files to documents of a collection.

import { byId, el, plural, show } from "./dom.js";
import { Failure, json } from "./server.js";

const TEXT = /\.(txt|text|md|markdown|html?|rst)$/i;
const LINES = /\.(jsonl|ndjson)$/i;
const AT_ONCE = 200;

export function documents(names, changed) {
  byId("add-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = byId("add-to").value.trim();
    const status = el("p", { class: "job" });
    byId("jobs").prepend(status);
    try {
      const found = await readAll([...byId("files").files], status);
      await sent(name, found, names(), status);
      show(status, `${plural(found.length, "document")} added to ${name}.`);
      byId("add-form").reset();
      changed(name);
    } catch (error) {
      status.classList.add("problem");
      show(status, `${error.message} ${error.todo || ""}`);
    }
  });
}

async function readAll(files, status) {
  if (!files.length) throw new Failure("No file is chosen.", "Choose one or more.");
  const found = [];
  for (const file of files) {
    show(status, `Reads ${file.name}…`);
    const text = await file.text();
    if (LINES.test(file.name)) found.push(...lines(text, file.name));
    else if (TEXT.test(file.name)) found.push({ id: file.name, title: file.name.replace(/\.\w+$/, ""), text: plain(text, file.name) });
    else throw new Failure(`${file.name} is not text.`, "Add it with: kvasir index NAME FOLDER");
  }
  return found;
}

function lines(text, name) {
  return text.split("\n").flatMap((line, i) => {
    if (!line.trim()) return [];
    try {
      const { _id, id = _id, title = "", text: own, metadata = {} } = JSON.parse(line);
      return [{ id: String(id), title, text: String(own), metadata }];
    } catch {
      throw new Failure(`${name}, line ${i + 1} is not JSON.`, "Mend it and add the file again.");
    }
  });
}

const plain = (text, name) => (/\.html?$/i.test(name) ? text.replace(/<[^>]*>/g, " ") : text);

async function sent(name, found, known, status) {
  const there = known.includes(name);
  for (let at = 0; at < found.length; at += AT_ONCE) {
    show(status, `${Math.min(at + AT_ONCE, found.length)} of ${plural(found.length, "document")}…`);
    const some = found.slice(at, at + AT_ONCE);
    if (at || there) await json(`/v1/collections/${encodeURIComponent(name)}/documents`, { body: { documents: some } });
    else await json("/v1/collections", { body: { name, documents: some } });
  }
}
