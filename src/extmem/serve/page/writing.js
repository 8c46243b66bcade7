// A text as it is written: each token shaded by what the memory gave, and what it cites.

import * as api from "./api.js";
import { h } from "./dom.js";
import { t } from "./words.js";

const AROUND = 90;

/** A text that streams in. `write` returns its tokens. */
export function text(title, cited = true) {
  const written = h("p", { className: "written" });
  const cites = h("div", { className: "cites", "aria-live": "polite" }, h("p", { className: "small" }, t("cites_none")));
  const element = h("section", { className: "text" }, h("h2", {}, title), written, cited ? cites : null);

  async function write(body, signal) {
    const tokens = [];
    written.replaceChildren(h("span", { className: "prompt" }, body.prompt));
    for await (const token of api.generate(body, signal)) {
      tokens.push(token);
      const word = token.piece.trimStart();
      written.append(token.piece.slice(0, token.piece.length - word.length), spanOf(token, word));
    }
    return tokens;
  }

  function spanOf(token, word) {
    const span = h("span", { className: "token" }, word);
    span.style.setProperty("--share", token.memory_share.toFixed(3));
    if (!cited || !token.citations.length) return span;
    const tell = () => {
      written.querySelector(".chosen")?.classList.remove("chosen");
      span.classList.add("chosen");
      show(cites, token, word);
    };
    span.tabIndex = 0;
    span.setAttribute("role", "button");
    for (const event of ["mouseenter", "focus", "click"]) span.addEventListener(event, tell);
    return span;
  }

  return { element, write, written };
}

async function show(cites, token, word) {
  cites.asked = token;
  const list = await sources(token.citations);
  if (cites.asked !== token) return;
  cites.replaceChildren(
    h("p", { className: "small" }, `“${word}”: ${t("probability")} ${percent(token.probability)}, ${percent(token.memory_share)} ${t("from_memory")}`),
    list);
}

/** What is cited, each place marked in its record; `space` is the namespace, where that is not the page's. */
export async function sources(citations, space, name = (key) => key) {
  const records = await Promise.all(citations.map((one) => api.record(one.key, space).catch(() => null)));
  return h("ol", {}, citations.map((one, at) => h("li", {},
    h("div", { className: "line" }, h("b", {}, name(one.key)), h("span", { className: "weight" }, percent(one.weight))),
    records[at] ? quote(records[at], one) : h("p", { className: "small" }, t("gone")))));
}

function quote(record, { start, end }) {
  const letters = [...String(record.value)]; // spans count characters, not UTF-16 units
  const from = Math.max(0, start - AROUND);
  const piece = (a, b) => letters.slice(a, b).join("");
  return h("blockquote", {}, from ? "…" : "", piece(from, start), h("mark", {}, piece(start, end)), piece(end, end + AROUND),
    end + AROUND < letters.length ? "…" : "");
}

const percent = (part) => `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`;
