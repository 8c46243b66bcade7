// Files in and out: dropped or chosen ones are stored, an export is saved.

import * as api from "./api.js";
import { h, notice } from "./dom.js";
import { edit } from "./editing.js";
import { t } from "./words.js";

/** The place for files, with the buttons beside it; `done` when something was stored. */
export function dropping(done) {
  const picker = h("input", { type: "file", multiple: true, hidden: true, onchange: () => take([...picker.files]) });
  const state = h("div", {});
  const place = h("div", { className: "drop small grow" }, `${t("drop")} `,
    h("button", { className: "plain", type: "button", onclick: () => picker.click() }, t("choose")), picker, state);
  place.addEventListener("dragover", (event) => { event.preventDefault(); place.classList.add("over"); });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    take([...event.dataTransfer.files]);
  });

  async function take(files) {
    let count = 0;
    for (const file of files) {
      const bar = h("progress", { max: 1, value: 0, "aria-label": t("importing", file.name) });
      state.replaceChildren(t("importing", file.name), bar);
      try { count += await store(file, (part) => { bar.value = part; }); } catch (error) { notice(t("failed", `${file.name}: ${error.message}`), { seconds: 12 }); }
    }
    if (count) await api.memorize().catch((error) => notice(t("failed", error.message)));
    state.replaceChildren();
    picker.value = "";
    notice(t("imported", count));
    done();
  }

  return h("div", { className: "bar files" }, place,
    h("button", { type: "button", onclick: () => edit(null, done) }, t("add")),
    h("button", { type: "button", onclick: () => save().catch((error) => notice(t("failed", error.message))) }, t("export")));
}

/** JSON lines are many records; any other file is one, by its name. */
async function store(file, progress) {
  if (/\.(jsonl|ndjson)$/i.test(file.name)) return (await api.importFile(file, "auto", progress)).records;
  const value = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  await api.store(file.name, { value });
  return 1;
}

async function save() {
  const place = URL.createObjectURL(await api.exported());
  h("a", { href: place, download: "memory.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(place), 60_000);
}
