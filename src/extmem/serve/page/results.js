// The view of results: what was measured, as plots and as a table, and a text to measure.

import * as api from "./api.js";
import { h, notice, percent } from "./dom.js";
import { bars, mark, points } from "./plots.js";
import { spoken, t } from "./words.js";

const ROWS = ["model", "cache", "datastore", "memory"];
const SOURCES = ["model", "cache", "datastore"];
let [typed, leaving] = ["", null]; // the text survives a look at another view, its measuring does not

export async function show(main) {
  leaving?.abort();
  const text = h("textarea", { required: true, rows: 4, value: typed, oninput: () => { typed = text.value; } });
  const picker = h("input", { type: "file", accept: "text/*,.md,.txt", hidden: true, onchange: () => take(picker.files[0]) });
  const go = h("button", { className: "main" }, t("measure"));
  const state = h("div", { role: "status" });
  const place = h("div", {});
  let found = [];

  text.addEventListener("dragover", (event) => event.preventDefault());
  text.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });

  async function take(file) {
    if (file) typed = text.value = await file.text();
    picker.value = "";
  }

  async function measure(event) {
    event.preventDefault();
    leaving = new AbortController();
    const bar = h("progress", { "aria-label": t("measuring") });
    state.replaceChildren(h("p", { className: "small" }, t("measuring")), bar);
    go.disabled = true;
    try {
      const result = await api.evaluate(text.value, (read, of) => { if (of) { bar.max = of; bar.value = read; } }, leaving.signal);
      found = [result, ...found];
      draw();
    } catch (error) {
      if (error.name !== "AbortError") notice(t("failed", error.message), { seconds: 12 });
    }
    state.replaceChildren();
    go.disabled = false;
  }

  function draw(at = 0) {
    const choice = h("select", { onchange: () => { draw(choice.selectedIndex); place.querySelector("select").focus(); } },
      found.map((one, index) => h("option", { selected: index === at }, `${when(one)}, ${t("tokens", one.tokens.toLocaleString())}`)));
    place.replaceChildren(...(found.length ? [h("label", { className: "measured" }, t("measured"), choice), ...plots(found[at])]
      : [h("p", { className: "empty" }, t("results_none"))]));
  }

  main.replaceChildren(h("h1", {}, t("results_title")), h("p", { className: "lead" }, t("results_lead")), place,
    h("form", { onsubmit: measure }, h("label", {}, t("measure_text"), text), h("div", { className: "bar" }, go,
      h("button", { type: "button", onclick: () => picker.click() }, t("measure_file")), picker), state));
  window.addEventListener("hashchange", () => leaving?.abort(), { once: true });
  try { found = await api.results(); draw(); } catch (error) { notice(t("failed", error.message)); }
}

const when = (one) => new Date(one.time * 1000).toLocaleString(spoken() === "en" ? "en-GB" : spoken(), { dateStyle: "medium", timeStyle: "medium" });

/** The rows that there is something to read for; without a datastore "memory" is "cache" once more. */
const rowsOf = (one) => ROWS.filter((row) => one.perplexity[row] !== null && (row !== "memory" || one.perplexity.datastore !== null));
const speed = (one, row) => one.tokens / one.seconds[row];
const whole = (value) => Math.round(value).toLocaleString();
const figure = (value) => (value < 1000 ? value.toFixed(1) : whole(value));

function plots(one) {
  const rows = rowsOf(one);
  const named = (value) => rows.map((row) => [t(`row_${row}`), value(row), row]);
  return [h("div", { className: "plots" },
    h("div", {}, plot("perplexity", bars(t("perplexity"), named((row) => one.perplexity[row]), figure)),
      plot("speed", bars(t("speed"), named((row) => speed(one, row)), whole))), calibrated(one)), table(one, rows)];
}

const plot = (name, ...drawn) => h("figure", {}, h("h2", {}, t(name)), ...drawn, h("figcaption", { className: "small" }, t(`${name}_about`)));

function calibrated(one) {
  const series = SOURCES.filter((name) => one.reliability[name]).map((name) => [name, one.reliability[name]]);
  const far = (pairs) => t("off", percent(pairs.reduce((sum, [share, own]) => sum + Math.abs(share - own), 0) / pairs.length));
  const said = series.map(([name, pairs]) => `${t(`source_${name}`)}${t("colon")}${far(pairs)}`);
  return plot("calibration", points(`${t("calibration")}. ${said.join("; ")}`, series, t("trusted"), t("owned")),
    h("ul", { className: "facts" }, series.map(([name], at) => h("li", {}, mark(name), said[at]))));
}

function table(one, rows) {
  const cells = (row) => [figure(one.perplexity[row]), row === "model" ? "" : `${(-one.reduction_percent[row]).toFixed(1)} %`.replace("-", "−"),
    one.bits_per_character[row].toFixed(3), whole(speed(one, row))];
  return h("details", {}, h("summary", {}, t("figures")), h("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": t("figures") }, h("table", {},
    h("thead", {}, h("tr", {}, h("td", {}), ["perplexity", "change", "bits", "per_second"].map((name) => h("th", { scope: "col" }, t(name))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, t(`row_${row}`)), cells(row).map((cell) => h("td", {}, cell))))))));
}
