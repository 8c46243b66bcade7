// Elements in a line each. Knows: the DOM. Does not know: what the page is about.

export function h(name, given = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element of a drawing. */
export function svg(name, given = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(given)) element.setAttribute(key, value);
  element.append(...children.flat());
  return element;
}

/** A text with some of its words marked. */
export function marked(text, words) {
  if (!words.length) return [text];
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).sort((a, b) => b.length - a.length);
  const pieces = text.split(new RegExp(`(${escaped.join("|")})`, "giu"));
  return pieces.map((piece, at) => (at % 2 ? h("mark", {}, piece) : piece));
}

/** A text as it is quoted: its paragraphs a line each. */
export const flowing = (text) => text.replace(/\s*\n\s*/g, (gap) => (gap.split("\n").length > 2 ? "\n" : " "));

/** Without the part of a word that it begins with. */
export const trimmed = (text) => text.replace(/^\S{0,20}\s/, "");

/** A line at the foot of the window, for some seconds; returns what takes it away. */
export function notice(text, { act, does, seconds = 6 } = {}) {
  const line = h("div", { className: "notice" }, h("span", {}, text));
  const away = () => line.remove();
  if (act) line.append(h("button", { type: "button", onclick: () => { away(); does(); } }, act));
  document.getElementById("notices").append(line);
  setTimeout(away, seconds * 1000);
  return away;
}

export const percent = (part) => `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`;
