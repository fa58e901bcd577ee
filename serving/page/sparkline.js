// A figure's last minutes as a line.

import { svg } from "./dom.js";

const WIDTH = 160;
const HEIGHT = 36;
const PAD = 3;

/** Values from old to new, null where nothing is known. `label` is what a screen reader says instead. */
export function sparkline(values, slots, label) {
  const most = Math.max(...values.filter((value) => value !== null), 1e-9);
  const x = (index) => WIDTH - ((values.length - 1 - index) / (slots - 1)) * WIDTH;
  const y = (value) => HEIGHT - PAD - (value / most) * (HEIGHT - 2 * PAD);
  const points = values.map((value, index) => (value === null ? null : [x(index), y(value)])).filter(Boolean);
  const line = points.map(([left, top]) => `${left.toFixed(1)},${top.toFixed(1)}`).join(" ");
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  if (!points.length) return picture;
  const under = `${points[0][0].toFixed(1)},${HEIGHT} ${line} ${points.at(-1)[0].toFixed(1)},${HEIGHT}`;
  picture.append(svg("polygon", { points: under, class: "under" }), svg("polyline", { points: line, class: "line" }));
  return picture;
}
