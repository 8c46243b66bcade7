// The page's frame: who is signed in, which view is shown, in which language and namespace.

import * as api from "./api.js";
import { h, notice } from "./dom.js";
import { spoken, switchLanguage, t } from "./words.js";
import * as chat from "./chat.js";
import * as compare from "./compare.js";
import * as memory from "./memory.js";
import * as results from "./results.js";
import * as write from "./write.js";

const VIEWS = { memory, chat, write, compare, results };
const WRITES = ["write", "compare", "results"]; // need a model
const main = document.getElementById("main");
let model = false;
const can = (name) => model || !WRITES.includes(name);

async function start() {
  const link = location.hash.match(/^#link=([\w-]+)$/);
  if (link) {
    history.replaceState(null, "", "/");
    try { await api.open(link[1]); } catch { return signing(t("sign_bad")); }
  }
  if (!api.signedIn()) return signing();
  await enter();
}

async function enter() {
  try {
    model = await api.writes();
    const paths = await api.spaces();
    const choice = document.getElementById("namespace");
    choice.replaceChildren(...paths.map((path) => h("option", { value: path }, path || t("whole"))));
    choice.hidden = paths.length < 2;
    api.within(paths[0]);
    show();
  } catch (error) {
    if (error.status !== 401) notice(t("failed", error.message));
  }
}

function signing(wrong = "") {
  frame(null);
  const key = h("input", { type: "password", autocomplete: "off", required: true });
  const open = async (event) => {
    event.preventDefault();
    api.signIn(key.value.trim());
    try { await api.stats(); } catch (error) { api.signOut(); return signing(error.status === 401 ? t("sign_bad") : t("failed", error.message)); }
    enter();
  };
  main.replaceChildren(
    h("h1", {}, t("sign_title")), h("p", { className: "lead" }, t("sign_lead")),
    h("form", { className: "stack", onsubmit: open }, h("label", {}, t("sign_key"), key),
      h("p", { className: "wrong", role: "alert" }, wrong), h("div", {}, h("button", { className: "main" }, t("sign_open")))),
  );
}

function frame(current) {
  document.documentElement.lang = spoken() === "zh" ? "zh-Hans" : "en";
  document.getElementById("skip").textContent = t("skip");
  document.getElementById("language").textContent = t("other");
  const choice = document.getElementById("namespace");
  choice.setAttribute("aria-label", t("namespace"));
  for (const option of choice.options) if (!option.value) option.textContent = t("whole");
  const names = current ? Object.keys(VIEWS).filter(can) : [];
  document.getElementById("views").replaceChildren(...names.map((name) =>
    h("a", { href: `#${name}`, ...(name === current ? { "aria-current": "page" } : {}) }, t(`view_${name}`))));
}

function show() {
  const asked = location.hash.slice(1);
  const name = Object.hasOwn(VIEWS, asked) && can(asked) ? asked : "memory";
  frame(name);
  document.title = `${t(`view_${name}`)} · extmem`;
  VIEWS[name].show(main);
}

document.getElementById("language").addEventListener("click", () => {
  switchLanguage();
  api.signedIn() ? show() : signing();
});
document.getElementById("namespace").addEventListener("change", (event) => {
  memory.settle();
  api.within(event.target.value);
  show();
});
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
document.addEventListener("signed-out", () => { api.signOut(); signing(t("sign_bad")); });
window.addEventListener("hashchange", () => { if (location.hash.startsWith("#link=")) start(); else if (api.signedIn()) show(); });
window.addEventListener("pagehide", () => memory.settle(true));
start();
