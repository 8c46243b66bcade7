// The view of the memory: records to browse, search, add, edit and forget; files in and out.

import * as api from "./api.js";
import { flowing, h, marked, notice, trimmed } from "./dom.js";
import { edit, shown } from "./editing.js";
import { dropping } from "./files.js";
import { t } from "./words.js";

const PAGE = 30;
const UNDO = 10_000;
const [LONG, LINES] = [320, 4]; // of a text that is shown at once: characters, lines
const BEFORE = 90; // characters before the first word that matched, where that stands far inside

// What will be forgotten, until its ten seconds are over. It is forgotten only then, and hidden before: storing it anew
// would bring back its text, but not its history nor what the model made of it.
const leaving = new Map();

/** Forgets at once what was to be forgotten. */
export function settle(closing = false) {
  for (const finish of leaving.values()) finish(closing);
}

export function show(main) {
  const facts = h("ul", { className: "facts" });
  const list = h("ul", { className: "records" });
  const foot = h("div", { className: "bar" });
  const query = h("input", { type: "search", placeholder: t("search_hint"), "aria-label": t("search") });
  let last = null;
  let sought = "";
  let asked = 0; // lists: what comes for one that is no longer the last is let fall

  const fail = (error) => notice(t("failed", error.message));

  async function again() {
    list.replaceChildren();
    last = null;
    try { await Promise.all([measure(), sought ? find() : more()]); } catch (error) { fail(error); }
  }

  async function measure() {
    const found = await api.stats();
    facts.replaceChildren(
      h("li", {}, h("b", {}, found.records.toLocaleString()), ` ${t("records")}`),
      ...found.datastores.map((one) => h("li", {}, `${t("datastore")} `, h("b", {}, one.fingerprint.slice(0, 8)),
        `${t("colon")}${one.entries.toLocaleString()} ${t("entries")}, ${(one.bytes / 2 ** 20).toFixed(1)}\u00a0MiB`)));
  }

  async function more() {
    const mine = ++asked;
    const found = await api.page(last, PAGE);
    if (mine !== asked) return;
    list.append(...rows(found.records));
    last = found.next;
    foot.replaceChildren(...(last === null ? [] : [h("button", { type: "button", onclick: () => more().catch(fail) }, t("more"))]));
    if (!list.children.length) list.append(h("li", { className: "empty" }, t("empty")));
  }

  async function find() {
    const mine = ++asked;
    const hits = await api.search(sought, PAGE);
    if (mine !== asked) return;
    list.replaceChildren(...rows(hits));
    foot.replaceChildren();
    if (!list.children.length) list.append(h("li", { className: "empty" }, t("none")));
  }

  const rows = (records) => records.filter((one) => !leaving.has(id(one.key))).map((one) => row(one));

  function row(one) {
    const text = shown(one);
    const long = text.length > LONG || text.split("\n").length > LINES;
    const words = one.words ?? [];
    const value = h("p", { className: "value" }, ...(long ? brief(text, words) : marked(text, words)));
    value.classList.toggle("long", long);
    const whole = (event) => {
      value.classList.remove("long");
      value.replaceChildren(...marked(text, words));
      event.target.nextElementSibling.focus();
      event.target.remove();
    };
    const item = h("li", {}, h("h2", { className: "key" }, one.key), value,
      one.parts ? why(one) : null,
      h("div", { className: "acts" },
        long ? h("button", { className: "plain", type: "button", "aria-label": `${t("show_all")}: ${one.key}`, onclick: whole }, t("show_all")) : null,
        one.bytes === undefined ? h("button", { className: "plain", type: "button", "aria-label": `${t("edit")}: ${one.key}`, onclick: () => edit(one.key, again).catch(fail) }, t("edit")) : null,
        h("button", { className: "plain", type: "button", "aria-label": `${t("forget")}: ${one.key}`, onclick: () => forget(one.key, item) }, t("forget"))));
    return item;
  }

  function forget(key, item) {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.hidden = true;
    (next?.querySelector("button") ?? query).focus();
    const finish = async (closing = false) => {
      clearTimeout(timer);
      away();
      leaving.delete(id(key));
      try {
        await api.forget(key, closing);
        item.remove();
        if (!closing) { notice(t("forgotten", key)); if (list.isConnected) await measure(); }
      } catch (error) { item.hidden = false; fail(error); }
    };
    const keep = () => {
      clearTimeout(timer);
      leaving.delete(id(key));
      if (item.isConnected) { item.hidden = false; item.querySelector("button").focus(); } else if (list.isConnected) again();
    };
    const timer = setTimeout(finish, UNDO);
    const away = notice(t("forgetting", key), { act: t("undo"), does: keep, seconds: UNDO / 1000 });
    leaving.set(id(key), finish);
  }

  const seek = (event) => { event.preventDefault(); sought = query.value.trim(); again(); };
  query.addEventListener("input", () => { if (!query.value && sought) { sought = ""; again(); } });
  main.replaceChildren(
    h("h1", {}, t("memory_title")), h("p", { className: "lead" }, t("memory_lead")), facts,
    h("form", { className: "bar", role: "search", onsubmit: seek }, h("div", { className: "grow" }, query), h("button", { className: "main" }, t("search"))),
    dropping(again), list, foot);
  again();
}

const id = (key) => `${api.namespace}\n${key}`;

/** A long text from where it matched on. */
function brief(text, words) {
  const [first, ...rest] = marked(flowing(text), words);
  return [rest.length && first.length > 2 * BEFORE ? `…${trimmed(first.slice(-BEFORE))}` : first, ...rest];
}

function why(hit) {
  const parts = Object.entries(hit.parts).map(([name, part]) => h("span", {}, `${t(`part_${name}`)} ${part.toFixed(3)}`));
  if (parts.length === 1) parts.pop(); // it is the score
  const matched = [...new Set(hit.words.map((word) => word.toLowerCase()))];
  const words = matched.length ? [h("span", {}, `${t("matched")}${t("colon")}${matched.join(t("comma"))}`)] : [];
  return h("p", { className: "small why" }, h("span", {}, `${t("score")} ${hit.score.toFixed(3)}`), ...parts, ...words);
}
