// Plots, drawn here. Knows: figures with their names. Does not know: what they are of. Each has its figures as its text.

import { svg } from "./dom.js";

const [WIDE, ROW, LEFT, RIGHT] = [320, 30, 92, 58]; // bars: names stand left, figures right
const [SIDE, EDGE] = [260, 34]; // points: the square, and room for its axes
const MARKS = { // of every series another form, so that it needs no colour
  model: (x, y) => svg("rect", { x: x - 3.5, y: y - 3.5, width: 7, height: 7 }),
  cache: (x, y) => svg("path", { d: `M${x} ${y - 5}l5 8.6h-10z` }),
  datastore: (x, y) => svg("circle", { cx: x, cy: y, r: 4.2 }),
};

const words = (x, y, text, given = {}) => svg("text", { x, y, ...given }, text);
const drawing = (width, height, label, ...children) =>
  svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "plot" }, ...children);

/** A bar for each [name, value, kind]. */
export function bars(title, rows, shown) {
  const most = Math.max(...rows.map(([, value]) => value));
  return drawing(WIDE, ROW * rows.length, `${title}. ${rows.map(([name, value]) => `${name}: ${shown(value)}`).join("; ")}`,
    rows.map(([name, value, kind], at) => {
      const length = Math.max(1, (WIDE - LEFT - RIGHT) * value / most);
      const middle = ROW * at + ROW / 2;
      return svg("g", { class: `of-${kind}` }, words(0, middle + 4, name),
        svg("rect", { x: LEFT, y: middle - 9, width: length, height: 18, rx: 2 }), words(LEFT + length + 6, middle + 4, shown(value)));
    }));
}

/** Points from 0 to 1 beside the line where both are the same; `series` are [kind, pairs]. */
export function points(label, series, across, up) {
  const x = (part) => EDGE + SIDE * part;
  const y = (part) => 8 + SIDE * (1 - part);
  const ticks = [0, 0.5, 1].flatMap((part) => [
    words(x(part), y(0) + 16, part, { "text-anchor": "middle" }), words(EDGE - 6, y(part) + 4, part, { "text-anchor": "end" })]);
  return drawing(WIDE, SIDE + EDGE + 14, label,
    svg("path", { class: "axis", d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}` }), svg("path", { class: "axis same", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }),
    ticks, words(x(0.5), y(0) + 34, across, { "text-anchor": "middle" }), words(x(0) + 8, y(1) + 6, `↑ ${up}`),
    series.map(([kind, pairs]) => svg("g", { class: `of-${kind}` }, pairs.map(([one, other]) => MARKS[kind](x(one), y(other))))));
}

/** The mark of a series, for a list of what is what. */
export const mark = (kind) => svg("svg", { viewBox: "0 0 14 14", class: "key-mark", "aria-hidden": "true" }, svg("g", { class: `of-${kind}` }, MARKS[kind](7, 7)));
