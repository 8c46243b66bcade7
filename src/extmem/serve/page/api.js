// The routes of /v1. Knows: HTTP, the key of this tab. Does not know: what is shown.
// The key is kept in sessionStorage: it ends with the tab, and no other site can have it sent.

const KEPT = "extmem.key";
export let namespace = "";
let model = false;

export const signedIn = () => sessionStorage.getItem(KEPT) !== null;
export const signIn = (key) => { namespace = ""; sessionStorage.setItem(KEPT, key); };
export const signOut = () => sessionStorage.removeItem(KEPT);
export const within = (path) => { namespace = path; };

export class Failed extends Error {
  constructor(status, said) {
    super(said?.message ?? `HTTP ${status}`);
    this.status = status;
  }
}

const headers = () => ({ Authorization: `Bearer ${sessionStorage.getItem(KEPT)}` });

function address(path, query = {}) {
  const said = new URLSearchParams(query);
  if (namespace && !said.has("namespace")) said.set("namespace", namespace);
  return `/v1/${path}${said.size ? `?${said}` : ""}`;
}

async function send(method, path, { body, query, ...rest } = {}) {
  const given = body === undefined ? {} : { body: JSON.stringify(body) };
  const kind = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(address(path, query), { method, headers: { ...headers(), ...kind }, ...given, ...rest });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  if (answer.status === 401) document.dispatchEvent(new CustomEvent("signed-out"));
  throw new Failed(answer.status, said?.error);
}

const json = async (...given) => (await send(...given)).json();
const dots = (key) => /^\.\.?$/.test(key); // a browser takes these out of an address
const named = (key) => (dots(key) ? "records/" : `records/${encodeURIComponent(key)}`);
const of = (space, key) => ({ query: { ...(space === undefined ? {} : { namespace: space }), ...(dots(key) ? { key } : {}) } });

export async function open(link) {
  const body = JSON.stringify({ link });
  const answer = await fetch("/v1/session", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const said = await answer.json();
  if (!answer.ok) throw new Failed(answer.status, said.error);
  signIn(said.session);
}

export const stats = () => json("GET", "stats");
/** The namespaces that the key opens, and those right below each, as their paths. */
export async function spaces() {
  const { namespaces } = await json("GET", "key");
  const below = await Promise.all(namespaces.map((path) => json("GET", "namespaces", { query: { namespace: path } })));
  return namespaces.flatMap((path, at) => [path, ...below[at].namespaces.map((name) => (path ? `${path}/${name}` : name))]);
}
export const page = (after, limit) =>
  json("GET", "records", { query: { values: true, limit, ...(after === null ? {} : { after }) } });
export const keys = async (limit) => (await json("GET", "records", { query: { limit } })).keys;
export const search = async (query, k) => (await json("POST", "search", { body: { query, k } })).hits;
export const record = (key, space) => json("GET", named(key), of(space, key));
export const store = (key, body, space) => json("PUT", named(key), { body, ...of(space, key) });
/** Has the model, where there is one, read a record or all: it writes with what it has read. */
export const memorize = async (key, space) => { if (model) await json("POST", "memorize", { body: key === undefined ? {} : { keys: [key] }, ...of(space) }); };
export const forget = (key, leaving = false) => json("DELETE", named(key), { keepalive: leaving, ...of(undefined, key) });
export const exported = async () => (await send("GET", "export")).blob();

/** Sends a file to be imported; `progress` is told the part that was sent. */
export function importFile(file, kind, progress) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", address("import", { kind, name: file.name }));
    request.setRequestHeader("Authorization", headers().Authorization);
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onerror = () => failed(new Failed(0, null));
    request.onload = () => {
      let said = null;
      try { said = JSON.parse(request.responseText); } catch { /* a proxy's page, or nothing: its status says it */ }
      if (request.status === 200 && said) done(said); else failed(new Failed(request.status, said?.error));
    };
    request.send(file);
  });
}

export const turns = (user, limit) => json("GET", "chat/turns", { query: { user, limit } });
export const memories = async (user) => (await json("GET", "chat/memories", { query: { user } })).memories;
export const erase = async (user, key) =>
  (await json("DELETE", `chat/memories/${encodeURIComponent(key)}`, { query: { user } })).forgotten;

/** What is said in server-sent events, as it comes. */
async function* events(path, body, signal) {
  const answer = await send("POST", path, { body, signal });
  const lines = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await lines.read();
    if (done) throw new Failed(0, { message: "the answer broke off" });
    const found = (rest + value).split("\n\n");
    rest = found.pop();
    for (const event of found) {
      const said = event.slice("data: ".length);
      if (said === "[DONE]") return;
      yield JSON.parse(said);
    }
  }
}

/** The tokens of a text as they come. */
export const generate = (body, signal) => events("generate", { ...body, stream: true }, signal);

/** The pieces of a reply as they come, and the whole of it. */
export const chat = (body, signal) => events("chat", { ...body, stream: true }, signal);

/** What was measured here, the newest first. */
export const results = async () => (await json("GET", "results")).results;

/** Measures a text; `progress` is told how many tokens were read, and of how many. */
export async function evaluate(text, progress, signal) {
  for await (const said of events("evaluate", { text }, signal)) {
    if (said.error) throw new Failed(0, said.error);
    if (said.result) return said.result;
    progress(said.read, said.of);
  }
}

/** Whether a model writes here. */
export async function writes() {
  const { data } = await json("GET", "models");
  model = data.some((one) => one.id === "lm");
  return model;
}
