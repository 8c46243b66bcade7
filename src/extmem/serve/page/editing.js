// One record in a dialog, new or changed. A record that another changed meanwhile is shown, not overwritten.

import * as api from "./api.js";
import { h, notice } from "./dom.js";
import { t } from "./words.js";

const KEPT = ["metadata", "author", "trust", "valid_from", "valid_to"];

/** A value as a person reads it. */
export function shown(one) {
  if (one.bytes !== undefined) return `${Math.floor((one.bytes.length * 3) / 4)} ${t("bytes")}`;
  return typeof one.value === "string" ? one.value : JSON.stringify(one.value, null, 2);
}

/** Opens the dialog: for the record of a key as it is now, or, where it is null, for a new one; `space` is the
    namespace it is in, where that is not the page's. */
export async function edit(key, done, space) {
  let now = key === null ? { version: 0 } : await api.record(key, space);
  const name = h("input", { required: true, value: key ?? "", readOnly: key !== null });
  const text = h("textarea", { required: true, rows: 7, value: key === null ? "" : shown(now) });
  const wrong = h("div", { role: "alert" });
  const dialog = h("dialog", { "aria-label": t(key === null ? "add" : "edit"), onclose: () => dialog.remove() });

  function body() {
    const kept = KEPT.filter((field) => now[field] !== undefined).map((field) => [field, now[field]]);
    const structured = key !== null && typeof now.value !== "string";
    return { value: structured ? JSON.parse(text.value) : text.value, expect: now.version, ...Object.fromEntries(kept) };
  }

  async function save(event) {
    event.preventDefault();
    try {
      await api.store(name.value, body(), space);
      dialog.close();
    } catch (error) {
      return say(error);
    }
    done();
    await api.memorize(name.value, space).catch((error) => notice(t("failed", error.message)));
    notice(t("saved"));
  }

  async function say(error) {
    if (error.status !== 409) {
      const why = error instanceof SyntaxError ? t("not_json") : t("failed", error.message);
      return wrong.replaceChildren(h("p", { className: "wrong" }, why));
    }
    if (key === null) return wrong.replaceChildren(h("p", { className: "wrong" }, t("taken")));
    const theirs = await api.record(key, space).catch(() => ({ version: 0, value: "" }));
    now = { ...now, version: theirs.version };
    wrong.replaceChildren(h("p", { className: "wrong" }, t("conflict")), h("p", { className: "value" }, shown(theirs)),
      h("p", { className: "wrong" }, t("conflict_again")));
  }

  dialog.append(h("form", { className: "stack", onsubmit: save },
    h("h2", {}, t(key === null ? "add" : "edit")), h("label", {}, t("key"), name), h("label", {}, t("value"), text), wrong,
    h("div", { className: "bar" }, h("button", { className: "main" }, t("save")),
      h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")))));
  document.body.append(dialog);
  dialog.showModal();
  (key === null ? name : text).focus();
}
