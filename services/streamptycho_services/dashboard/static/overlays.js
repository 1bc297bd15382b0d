// What is drawn over pictures: where the beam has been, distances, values along a line, the crop of a pattern.

import { label } from "./view.js";
import { count, length, small } from "./units.js";

const STATES = [ // in the order of their numbers
  { name: "waiting", text: "waiting", sign: "■", colour: "#ffb000" },
  { name: "used", text: "used", sign: "■", colour: "#00a8ff" },
  { name: "refused", text: "refused", sign: "+", colour: "#ff5ce1", cross: [[-1, 0, 1, 0], [0, -1, 0, 1]] },
  { name: "lost", text: "no frame", sign: "×", colour: "#ff5a4f", cross: [[-1, -1, 1, 1], [-1, 1, 1, -1]] },
  { name: "planned", text: "planned", sign: "▪", colour: "#93a1b0", part: 0.7 },
];
const IN_TURN = [4, 1, 0, 2, 3]; // painted
const ORDER = [1, 0, 2, 3, 4];
const NEWEST = { text: "newest", sign: "○", colour: "#fff" };

/** Points of the scan by state. `points` is {origin_m, shape: [k, 3], data, newest}. */
export function coverage(points) {
  return (context, view) => {
    const { zoom } = view.place();
    const [oy, ox] = view.toScreen(...points.origin_m);
    const ratio = window.devicePixelRatio || 1;
    const { data, shape: [total] } = points;
    const size = Math.max(1.5, Math.min(4, 100 / Math.sqrt(total))) * ratio;
    const at = (i) => [oy + data[3 * i] * zoom, ox + data[3 * i + 1] * zoom];
    for (const state of IN_TURN) {
      const { colour, cross, part = 1 } = STATES[state];
      const side = part * size;
      context.beginPath();
      for (let i = 0; i < total; i++) {
        if (data[3 * i + 2] !== state) continue;
        const [y, x] = at(i);
        if (!cross) context.rect(x - side / 2, y - side / 2, side, side);
        const arm = size + 1.5 * ratio;
        for (const [y0, x0, y1, x1] of cross ?? []) {
          context.moveTo(x + x0 * arm, y + y0 * arm);
          context.lineTo(x + x1 * arm, y + y1 * arm);
        }
      }
      context.fillStyle = colour;
      if (!cross) context.fill();
      else outlined(context, colour, 2 * ratio);
    }
    if (points.newest === null) return;
    const [y, x] = at(points.newest);
    context.beginPath();
    context.arc(x, y, size + 3 * ratio, 0, 7);
    outlined(context, NEWEST.colour, 1.5 * ratio);
  };
}

function outlined(context, colour, width) {
  for (const [style, wide] of [["#000b", 2 * width], [colour, width]]) {
    context.strokeStyle = style;
    context.lineWidth = wide;
    context.stroke();
  }
}

/** What the marks mean, and how many there are of each. */
export function legend({ counts, newest }) {
  const states = ORDER.map((i) => ({ ...STATES[i], number: counts[STATES[i].name] })).filter(({ number }) => number);
  return [...states, ...(newest === null ? [] : [NEWEST])].map(({ text, colour, sign, number }) => {
    const line = document.createElement("li");
    const mark = Object.assign(document.createElement("i"), { textContent: sign });
    mark.style.color = colour;
    mark.setAttribute("aria-hidden", "true");
    line.append(mark, number ? ` ${text} ${count(number)}` : ` ${text}`);
    return line;
  });
}

/** The line that was drawn last, with its length; with values along it if it is a cut. */
export function measure(view) {
  return (context) => {
    if (!view.drag || !view.line) return;
    const [a, b] = view.line;
    const ratio = window.devicePixelRatio || 1;
    const [ay, ax] = view.toScreen(...a);
    const [by, bx] = view.toScreen(...b);
    for (const [style, width] of [["#000a", 5], ["#ffb000", 2]]) {
      context.strokeStyle = style;
      context.lineWidth = width * ratio;
      context.beginPath();
      context.moveTo(ax, ay);
      context.lineTo(bx, by);
      context.stroke();
    }
    const metres = Math.hypot(b[0] - a[0], b[1] - a[1]);
    if (metres > 0) label(context, length(metres), (ax + bx) / 2 + 8 * ratio, (ay + by) / 2 - 8 * ratio);
    if (view.drag === "cut" && metres > 0) profile(context, view, a, b, metres);
  };
}

/** Values along a line, one per picture pixel. */
export function alongLine(view, a, b) {
  const n = Math.max(2, Math.ceil(Math.hypot(b[0] - a[0], b[1] - a[1]) / view.image.pixel_m[0]) + 1);
  return Array.from({ length: Math.min(n, 4000) }, (_, i) => {
    const t = i / (Math.min(n, 4000) - 1);
    return view.valueAt(a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]));
  });
}

function profile(context, view, a, b, metres) {
  const values = alongLine(view, a, b);
  const known = values.filter(Number.isFinite);
  if (known.length < 2) return;
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = view.canvas;
  const [w, h] = [width * 0.52, Math.min(height * 0.26, 150 * ratio)];
  const [x0, y0] = [width - w - 10 * ratio, height - h - 10 * ratio];
  const [low, high] = [Math.min(...known), Math.max(...known)];
  context.fillStyle = "#0b1118e0";
  context.fillRect(x0, y0, w, h);
  context.strokeStyle = "#ffb000";
  context.lineWidth = 1.5 * ratio;
  context.beginPath();
  let down = false;
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) { down = false; return; }
    const x = x0 + 6 * ratio + (i / (values.length - 1)) * (w - 12 * ratio);
    const y = y0 + h - 18 * ratio - ((value - low) / (high - low || 1)) * (h - 36 * ratio);
    if (down) context.lineTo(x, y); else context.moveTo(x, y);
    down = true;
  });
  context.stroke();
  const unit = view.image.unit ? ` ${view.image.unit}` : "";
  label(context, `${small(high)}${unit}`, x0 + 6 * ratio, y0 + 13 * ratio);
  label(context, `${small(low)}${unit}`, x0 + 6 * ratio, y0 + h - 5 * ratio);
  label(context, length(metres), x0 + w - 6 * ratio, y0 + h - 5 * ratio, "right");
}

/** Beam centre and the part of the detector that is reconstructed from. */
export function crop(context, view) {
  const { centre_px: centre, crop_px: first, crop_shape_px: shape, binning } = view.image;
  const ratio = window.devicePixelRatio || 1;
  const at = (y, x) => view.toScreen(y / binning - 0.5, x / binning - 0.5);
  const [top, left] = at(first[0], first[1]);
  const [bottom, right] = at(first[0] + shape[0], first[1] + shape[1]);
  context.strokeStyle = "#21b4ff";
  context.lineWidth = 1.5 * ratio;
  context.strokeRect(left, top, right - left, bottom - top);
  const [y, x] = at(centre[0] + 0.5, centre[1] + 0.5);
  context.strokeStyle = "#7dff9a";
  context.beginPath();
  for (const [from, to] of [[4, 12], [-12, -4]]) {
    context.moveTo(x + from * ratio, y);
    context.lineTo(x + to * ratio, y);
    context.moveTo(x, y + from * ratio);
    context.lineTo(x, y + to * ratio);
  }
  context.stroke();
}
