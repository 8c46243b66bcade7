// The view that writes: a prompt, its continuation with the memory, and beside it without.

import { h, notice } from "./dom.js";
import { t } from "./words.js";
import { text } from "./writing.js";

let said = { prompt: "", words: 40, both: false }; // survives a look at another view
let leaving = null; // its writing does not

export function show(main) {
  leaving?.abort();
  const prompt = h("textarea", { required: true, value: said.prompt, rows: 2 });
  const words = h("input", { type: "number", min: 1, max: 400, value: said.words });
  const both = h("input", { type: "checkbox", checked: said.both });
  const go = h("button", { className: "main" }, t("write"));
  const stop = h("button", { type: "button", hidden: true, onclick: () => leaving?.abort() }, t("stop"));
  const place = h("div", { className: "pair" });

  async function write(event) {
    event.preventDefault();
    said = { prompt: prompt.value, words: Number(words.value), both: both.checked };
    const body = { prompt: said.prompt, max_tokens: said.words, allow_unknown: true, seed: 0 };
    const texts = said.both ? [[text(t("without"), false), false], [text(t("with")), true]] : [[text(t("with")), true]];
    place.className = said.both ? "pair two" : "pair";
    place.replaceChildren(...texts.map(([one]) => one.element));
    if (said.both) place.append(texts[1][0].cites); // below both
    const { signal } = (leaving = new AbortController());
    go.disabled = true;
    stop.hidden = false;
    try {
      for (const [one, memory] of texts) await one.write({ ...body, memory }, signal);
    } catch (error) {
      if (error.name !== "AbortError") notice(t("failed", error.message));
    }
    go.disabled = false;
    stop.hidden = true;
  }

  main.replaceChildren(h("h1", {}, t("write_title")), h("p", { className: "lead" }, t("write_lead")),
    h("form", { onsubmit: write }, h("label", {}, t("prompt"), prompt),
      h("div", { className: "bar low" }, h("label", {}, t("words"), words), h("label", { className: "check grow" }, both, t("both")), stop, go)), place);
  window.addEventListener("hashchange", () => leaving?.abort(), { once: true });
}
