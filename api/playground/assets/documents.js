// Files to a collection, as a job of the server that is watched until it is over.

import { byId, el, figure, plural, show } from "./dom.js";
import { Failure, call, events, json } from "./server.js";

const STEPS = {
  read: "reads the documents", lucene: "indexes their words", encode: "encodes them", ann: "links the vectors",
  add: "adds them", warm: "has the language model read them",
};
const ENDS = { done: "done", failed: "failed", cancelled: "cancelled" };
const AGAIN_MS = 1000;

/** Has the form send files; `changed(name)` is called when a collection holds new documents. */
export function documents(changed) {
  byId("add-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const [name, files] = [byId("add-to").value.trim(), [...byId("files").files]];
    const line = el("div", { class: "job" });
    byId("jobs").prepend(line);
    try {
      const job = await begun(name, files, line);
      byId("add-form").reset();
      await watched(job, line, changed);
    } catch (error) {
      failed(line, error);
    }
  });
}

/** Lists the jobs that run already, and watches them. */
export async function jobs(changed) {
  const found = await json("/v1/jobs?limit=20");
  for (const job of found.jobs.filter((one) => !ENDS[one.state])) {
    const line = el("div", { class: "job" });
    byId("jobs").append(line);
    watched(job, line, changed).catch((error) => failed(line, error));
  }
}

async function begun(name, files, line) {
  if (!files.length) throw new Failure("No file is chosen.", "Choose one or more.");
  show(line, `Sends ${plural(files.length, "file")} to ${name}…`);
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  const response = await call(`/v1/jobs?collection=${encodeURIComponent(name)}`, {
    body: form, raw: true, headers: { "idempotency-key": [...crypto.getRandomValues(new Uint32Array(4))].join("-") },
  });
  return response.json();
}

/** Follows the job over broken connections until it is over. */
async function watched(job, line, changed) {
  let seen = "";
  let last = job;
  drawn(last, line);
  while (!ENDS[last.state]) {
    try {
      const headers = seen ? { "last-event-id": seen } : {};
      for await (const [name, data, id] of events(await call(`/v1/jobs/${job.id}/events`, { headers }))) {
        if (name !== "progress" && name !== "end") continue;
        [last, seen] = [data, id];
        drawn(last, line);
      }
    } catch (error) {
      if (error.status) throw error; // a server that does not answer is asked again
    }
    if (!ENDS[last.state]) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  await over(last, line);
  if (last.state === "done") changed(last.collection);
}

function drawn(job, line) {
  const known = job.total !== null && job.total > 0;
  const bar = el("progress", { "aria-label": `Progress of ${job.collection}`, max: known ? job.total : null, value: known ? job.done : null });
  const far = job.state === "queued" ? "waits for its turn"
    : `${STEPS[job.step] || job.step || "begins"}, ${figure(job.done)}${known ? ` of ${figure(job.total)}` : ""}`;
  const left = job.eta_seconds === null ? "" : `about ${figure(job.eta_seconds)} s left`;
  const stop = el("button", { type: "button", onclick: () => cancelled(job, stop) }, "Cancel");
  show(line, el("p", { class: "line" }, el("b", {}, job.collection), el("span", {}, far), el("span", {}, left), stop), bar);
}

async function cancelled(job, button) {
  button.disabled = true;
  try {
    await call(`/v1/jobs/${job.id}`, { method: "DELETE" });
  } catch (error) {
    button.disabled = false;
    button.after(el("span", { class: "problem" }, error.message));
  }
}

async function over(job, line) {
  const skipped = job.skipped ? await json(`/v1/jobs/${job.id}/skipped?limit=50`) : { skipped: [] };
  const said = job.state === "done" ? `${job.collection} is ready.` : `${job.collection}: ${ENDS[job.state]}.`;
  show(line, el("p", {}, said), job.error ? el("p", { class: "problem" }, job.error) : null,
    job.notes.map((note) => el("p", {}, note)),
    job.skipped ? el("details", {}, el("summary", {}, `${plural(job.skipped, "file or row", "files or rows")} left out`),
      el("ul", {}, skipped.skipped.map((one) => el("li", {}, `${one.where}: ${one.why}`)))) : null);
}

function failed(line, error) {
  show(line, el("div", { class: "problem" }, el("p", {}, error.message), error.todo ? el("p", {}, error.todo) : null));
}
