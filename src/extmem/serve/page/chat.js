// The view that talks: a conversation, and beside it what this turn recalled and what is held of the user.

import * as api from "./api.js";
import { h, notice } from "./dom.js";
import { edit } from "./editing.js";
import { t } from "./words.js";
import { sources } from "./writing.js";

const LISTED = 50; // turns of before
const NONE = "not in memory"; // what the memory keeps as its reply where it has none
const OWN = /^(noted|you said)(: |$)/; // how a reply begins that no writer wrote

let user = "me"; // survives a look at another view, as do the conversations
const conversations = new Map();

export function show(main) {
  const name = h("input", { value: user, required: true, autocomplete: "off", onchange: another });
  const log = h("div", { className: "text log", role: "log", "aria-live": "polite", "aria-label": t("log"), tabIndex: 0 });
  const message = h("textarea", { required: true, rows: 2, onkeydown: enters });
  const go = h("button", { className: "main" }, t("send"));
  const recalled = h("ul", { className: "records" });
  const held = h("ul", { className: "records" });
  const entries = new Map(); // of the log, by their keys
  let [space, brought] = [undefined, []];

  const fail = (error) => notice(t("failed", error.message));
  const here = () => `${api.namespace}\n${user}`;

  async function another() {
    user = name.value.trim();
    brought = [];
    await load();
  }

  async function load() {
    entries.clear();
    log.replaceChildren();
    held.replaceChildren();
    remind();
    const asked = user;
    try {
      const found = await api.turns(asked, LISTED);
      if (asked !== user) return;
      space = found.namespace;
      for (const one of found.turns) {
        const about = one.metadata ?? {};
        const theirs = about.speaker !== user;
        say(entry(theirs, one.key), theirs && about.quoted && one.value === NONE ? null : String(one.value));
      }
      if (!found.turns.length) log.append(h("p", { className: "empty" }, t("chat_empty")));
      log.scrollTop = log.scrollHeight;
      await hold();
    } catch (error) { fail(error); }
  }

  function entry(theirs, key) {
    log.querySelector(".empty")?.remove();
    const text = h("p", { className: "value" });
    const element = h("div", { className: theirs ? "said" : "said mine" }, h("p", { className: "small why" }, h("b", {}, t(theirs ? "reply" : "you"))), text);
    log.append(element);
    const one = { element, text, theirs };
    if (key) keep(one, key);
    return one;
  }

  /** Gives what stands in the log the key that it was kept under. */
  function keep(one, key) {
    entries.set(key, one);
    const who = one.element.firstChild;
    who.append(h("span", {}, named(key)));
    if (!one.theirs) who.append(act("erase", key, () => erase(key)));
  }

  function say(one, text) {
    const own = (_, said, colon) => t(said.replace(" ", "_")) + (colon && t("colon"));
    one.text.textContent = one.theirs ? text?.replace(OWN, own) ?? t("unknown") : text;
    one.text.classList.toggle("prompt", text === null);
  }

  async function send(event) {
    event.preventDefault();
    const said = message.value.trim();
    if (!said || go.disabled) return;
    go.disabled = name.disabled = true;
    message.value = "";
    log.setAttribute("aria-busy", "true");
    const [mine, theirs] = [entry(false), entry(true)];
    say(mine, said);
    say(theirs, "…");
    log.scrollTop = log.scrollHeight;
    try {
      let [written, reply, conversation] = ["", null, conversations.get(here())];
      for await (const told of api.chat({ user, message: said, ...(conversation ? { conversation } : {}) })) {
        if (told.piece === undefined) reply = told;
        else say(theirs, (written += told.piece));
        log.scrollTop = log.scrollHeight;
      }
      conversations.set(here(), reply.conversation);
      await replied(mine, theirs, reply, written);
    } catch (error) {
      fail(error);
      theirs.element.remove();
      if (error.status >= 400) { mine.element.remove(); message.value = said; } // else it may have been kept
    }
    log.setAttribute("aria-busy", "false");
    go.disabled = name.disabled = false;
  }

  async function replied(mine, theirs, reply, written) {
    keep(mine, reply.turn);
    if (reply.key) keep(theirs, reply.key);
    say(theirs, reply.failed ? written : reply.text);
    if (reply.failed) theirs.element.append(h("p", { className: "wrong" }, t("broke_off")));
    brought = [...reply.recalled.preferences, ...reply.recalled.turns];
    remind();
    const cited = reply.citations.filter((one) => one.key !== reply.turn); // what stands right above needs no quoting
    if (cited.length) {
      const list = await sources(cited, space, named);
      theirs.element.append(h("div", { className: "cites" }, h("p", { className: "small" }, t("sources")), list));
    }
    log.scrollTop = log.scrollHeight;
    await hold();
  }

  /** Shows what this turn recalled. */
  function remind() {
    recalled.replaceChildren(...brought.map((one) => row(one, h("span", {}, named(one.key)), h("span", {}, `${t("score")} ${one.score.toFixed(2)}`))));
    if (!brought.length) recalled.append(h("li", { className: "small" }, t("recalled_none")));
  }

  /** Shows what is held of the user. */
  async function hold() {
    const asked = user;
    const found = await api.memories(asked);
    if (asked !== user) return;
    held.replaceChildren(...found.map((one) => row(one, h("span", {}, named(one.key)),
      h("span", {}, one.turns.length ? `${t("from")} ${one.turns.map(named).join(t("comma"))}` : t("by_hand")),
      ...one.before.map((place) => h("span", {}, `${t("earlier")}: “${place.value}” (${named(place.turn)})`)))));
    if (!found.length) held.append(h("li", { className: "small" }, t("held_none")));
  }

  const row = (one, ...about) => h("li", {}, h("p", { className: "value" }, one.value), h("p", { className: "small why" }, ...about,
    h("span", { className: "acts" }, act("edit", one.key, () => edit(one.key, () => changed(one.key).catch(fail), space).catch(fail)),
      act("erase", one.key, () => erase(one.key)))));

  const act = (what, key, does) =>
    h("button", { className: "plain", type: "button", "aria-label": `${t(what)}: ${named(key)}`, onclick: does }, t(what));

  async function changed(key) {
    const { value } = await api.record(key, space);
    brought = brought.map((one) => (one.key === key ? { ...one, value } : one));
    if (entries.has(key)) say(entries.get(key), value);
    remind();
    await hold();
    settle();
  }

  async function erase(key) {
    if (!confirm(t("sure", named(key)))) return;
    try {
      const gone = new Set(await api.erase(user, key));
      for (const one of gone) { entries.get(one)?.element.remove(); entries.delete(one); }
      brought = brought.filter((one) => !gone.has(one.key));
      notice(t("erased", gone.size));
    } catch (error) { fail(error); }
    remind();
    await hold().catch(fail);
    settle();
  }

  /** Gives the focus a place where that which had it is gone. */
  const settle = () => { if (document.activeElement === document.body) message.focus(); };

  function enters(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  }

  main.replaceChildren(h("h1", {}, t("chat_title")), h("p", { className: "lead" }, t("chat_lead")),
    h("div", { className: "talk" },
      h("div", {}, h("label", {}, t("user"), name), log,
        h("form", { onsubmit: send }, h("label", {}, t("said"), message),
          h("div", { className: "bar" }, h("span", { className: "small grow" }, t("chat_hint")), go))),
      h("div", { className: "beside" }, h("section", {}, h("h2", {}, t("recalled")), recalled), h("section", {}, h("h2", {}, t("held")), held))));
  load();
}

/** A key as a person reads it. */
function named(key) {
  const number = key.match(/^turn\/0*(\d+)$/);
  return number ? t("turn", number[1]) : key.replace(/^preference\//, "");
}
