// What is asked, in the address behind #: a page that can be shared, and left by the back button.

const SHORT = { query: "q", mode: "m", collection: "c", pipeline: "p", versus: "vs", selector: "s", budget: "b", k: "k" };

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = {};
  for (const [name, short] of Object.entries(SHORT)) if (given.has(short)) found[name] = given.get(short);
  return found;
}

export function write(asked) {
  const given = new URLSearchParams();
  for (const [name, short] of Object.entries(SHORT)) if (asked[name]) given.set(short, asked[name]);
  const hash = `#${given}`;
  if (hash !== location.hash) history.pushState(null, "", hash);
}
