// A text as it is written: each token shaded by what came from the memory (and not from this text itself), what it
// cites, and what model and memory found likeliest there. One Tab stop; the arrow keys go from word to word.

import * as api from "./api.js";
import { flowing, h, percent, trimmed } from "./dom.js";
import { t } from "./words.js";

const AROUND = 90;
const TOP = 3; // words of model and memory that are shown
const remembered = (token) => token.memory_share - token.cache_share;

/** A text that streams in. `write` returns its tokens. */
export function text(title, cited = true) {
  const written = h("p", { className: "written", role: "group", "aria-label": title, onkeydown: step });
  const cites = h("div", { className: "cites", "aria-live": "polite" }, h("p", { className: "small" }, t("cites_none")));
  const element = h("section", { className: "text" }, h("h2", {}, title), written, cited ? cites : null);

  async function write(body, signal) {
    const tokens = [];
    written.replaceChildren(h("span", { className: "prompt" }, body.prompt));
    for await (const token of api.generate(cited ? { ...body, top: TOP } : body, signal)) {
      tokens.push(token);
      const word = token.piece.trimStart();
      written.append(token.piece.slice(0, token.piece.length - word.length), spanOf(token, word));
    }
    return tokens;
  }

  function spanOf(token, word) {
    const span = h("span", { className: "token" }, word);
    span.style.setProperty("--share", remembered(token).toFixed(3));
    if (!cited || !word) return span;
    span.classList.toggle("cited", token.citations.length > 0);
    const tell = () => {
      written.querySelector(".chosen")?.classList.remove("chosen");
      written.querySelector("[tabindex='0']").tabIndex = -1;
      span.classList.add("chosen");
      span.tabIndex = 0;
      show(cites, token, word);
    };
    span.tabIndex = written.querySelector("[tabindex='0']") ? -1 : 0;
    span.setAttribute("role", "button");
    for (const event of ["mouseenter", "focus", "click"]) span.addEventListener(event, tell);
    return span;
  }

  function step(event) {
    const words = [...written.querySelectorAll("[tabindex]")];
    const to = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!to) return;
    event.preventDefault();
    words[Math.min(words.length - 1, Math.max(0, words.indexOf(event.target) + to))].focus();
  }

  return { element, cites, write, written };
}

async function show(cites, token, word) {
  cites.asked = token;
  const list = await sources(token.citations);
  if (cites.asked !== token) return;
  cites.replaceChildren(
    h("p", { className: "small" }, `“${word}”: ${t("probability")} ${percent(token.probability)}, ${percent(remembered(token))} ${t("from_memory")}, ${percent(token.cache_share)} ${t("from_text")}`),
    h("dl", { className: "likeliest" }, likeliest(t("model_words"), token.model_words), likeliest(t("memory_words"), token.memory_words)),
    list);
}

/** What is cited, each place marked in its record; `space` is the namespace, where that is not the page's. */
export async function sources(citations, space, name = (key) => key) {
  const records = await Promise.all(citations.map((one) => api.record(one.key, space).catch(() => null)));
  return h("ol", {}, citations.map((one, at) => h("li", {},
    h("div", { className: "line" }, h("b", {}, name(one.key)), h("span", { className: "weight" }, percent(one.weight))),
    records[at] ? quote(records[at], one) : h("p", { className: "small" }, t("gone")))));
}

const likeliest = (title, words) => h("div", {}, h("dt", {}, title),
  words?.length ? words.map(([word, p]) => h("dd", {}, h("span", {}, word === "<eos>" ? "¶" : word), h("span", { className: "weight" }, percent(p))))
    : h("dd", {}, t("no_words")));

function quote(record, { start, end }) {
  const letters = [...String(record.value)]; // spans count characters, not UTF-16 units
  const from = Math.max(0, start - AROUND);
  const piece = (a, b) => flowing(letters.slice(a, b).join(""));
  return h("blockquote", {}, from ? `…${trimmed(piece(from, start))}` : piece(from, start), h("mark", {}, piece(start, end)),
    end + AROUND < letters.length ? `${piece(end, end + AROUND).replace(/\s\S{0,20}$/, "")}…` : piece(end, end + AROUND));
}
