// Requests to the server this page came from. Errors say what happened and what to do.

const KEY = "kvasir-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

export class Failure extends Error {
  constructor(message, todo, status = 0) {
    super(message);
    this.todo = todo;
    this.status = status;
  }
}

const TODO = {
  401: "Enter an API key: it is at the top of the page.",
  403: "This key may not do that. Use one with the right scope and collection.",
  404: "Choose another collection or pipeline; what there is may have changed: reload the page.",
  409: "Something else is under way with this collection. Try again in a moment.",
  413: "Send less at once.",
  422: "Change what is named and try again.",
  429: "The server is busy.",
  502: "The engine behind the server does not answer. Choose a pipeline that does not need it.",
  503: "Part of the server is missing. Its log and /ready say which.",
  507: "The server's disk is full.",
};

export async function call(path, { body, signal, method, headers, raw } = {}) {
  const sent = new Headers(headers);
  if (key.get()) sent.set("authorization", `Bearer ${key.get()}`);
  if (body !== undefined && !raw) sent.set("content-type", "application/json");
  const options = { method: method || (body === undefined ? "GET" : "POST"), headers: sent, signal };
  if (body !== undefined) options.body = raw ? body : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server does not answer.", "See whether it runs, then try again.");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export const json = async (path, options) => (await call(path, options)).json();

async function failure(response) {
  let message = `The server answered ${response.status}.`;
  try {
    const body = await response.json();
    message = body.detail || body.error?.message || message;
  } catch {
    // not JSON: the status says what there is to say
  }
  const wait = response.headers.get("retry-after");
  const again = wait && (response.status === 429 || response.status === 503) ? ` Try again in ${wait} s.` : "";
  return new Failure(message, (TODO[response.status] || "Try again; the server's log says more.") + again, response.status);
}

/** Server-sent events of a response, as [name, data, id]. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      waiting += value;
      const blocks = waiting.split("\n\n");
      waiting = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  let name = "message";
  let id = "";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("id:")) id = line.slice(3).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length ? [name, JSON.parse(data.join("\n")), id] : null;
}
