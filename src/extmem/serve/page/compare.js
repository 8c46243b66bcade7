// The view that forgets: the same prompt before and after a record is erased for good.

import * as api from "./api.js";
import { h, notice } from "./dom.js";
import { t } from "./words.js";
import { text } from "./writing.js";

const LISTED = 1000;

export async function show(main) {
  const record = h("select", { required: true });
  const prompt = h("textarea", { required: true, rows: 2 });
  const see = h("button", {}, t("see"));
  const erase = h("button", { className: "main", type: "button", disabled: true, onclick: forget }, t("forget_now"));
  const place = h("div", { className: "pair two" });
  const verdict = h("p", { role: "status" });
  let [asked, before] = [null, null];

  const fail = (error) => notice(t("failed", error.message));
  const body = () => ({ prompt: prompt.value, max_tokens: 30, allow_unknown: true, seed: 0 });

  async function look(event) {
    event.preventDefault();
    const shown = text(t("before"));
    place.replaceChildren(shown.element);
    verdict.textContent = "";
    see.disabled = true;
    try {
      asked = body();
      before = await shown.write(asked);
      erase.disabled = prompt.value !== asked.prompt; // it may have been changed meanwhile
    } catch (error) { fail(error); }
    see.disabled = false;
  }

  async function forget() {
    const key = record.value;
    if (!confirm(t("sure", key))) return;
    erase.disabled = true;
    try {
      await api.forget(key);
      record.selectedOptions[0].remove();
      const shown = text(t("after", key));
      place.append(shown.element);
      const after = await shown.write(asked);
      const spans = shown.written.querySelectorAll(".token");
      const changed = after.map((token, at) => token.text !== before[at]?.text);
      changed.forEach((differs, at) => spans[at].classList.toggle("changed", differs));
      verdict.textContent = t(changed.some(Boolean) || after.length !== before.length ? "differs" : "same");
    } catch (error) { fail(error); }
  }

  for (const field of [record, prompt]) field.addEventListener("input", () => { erase.disabled = true; });
  main.replaceChildren(h("h1", {}, t("compare_title")), h("p", { className: "lead" }, t("compare_lead")),
    h("form", { className: "stack", onsubmit: look }, h("label", {}, t("record"), record), h("label", {}, t("prompt"), prompt),
      h("div", { className: "bar" }, see, erase)), place, verdict);
  try {
    const keys = await api.keys(LISTED);
    record.append(...keys.map((key) => h("option", { value: key }, key)));
    if (!keys.length) verdict.textContent = t("compare_none");
  } catch (error) { fail(error); }
}
