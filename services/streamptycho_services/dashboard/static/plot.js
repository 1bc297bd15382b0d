// A curve with axes. Redrawn as a whole: a few hundred points.

import { round125, small } from "./units.js";

export class Plot {
  /** `log`: logarithmic y axis; `whole`: x is counted. */
  constructor(canvas, { log = false, whole = false, xLabel = "", yRange = null } = {}) {
    this.canvas = canvas;
    this.options = { log, whole, xLabel, yRange };
    this.data = null;
    this.onpaint = () => {};
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  /** {x, y, marks: [{x, text}]}: points that are not finite, or not positive on a log axis, are left out. */
  set(data) {
    this.data = data;
    requestAnimationFrame(() => { this.paint(); this.onpaint(); });
  }

  clear() {
    this.data = null;
    requestAnimationFrame(() => this.paint());
  }

  paint() {
    const { canvas, data } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const { log, whole, yRange, xLabel } = this.options;
    const usable = (v) => v !== null && Number.isFinite(v) && (!log || v > 0);
    const points = data ? data.x.map((x, i) => [x, data.y[i]]).filter(([, y]) => usable(y)) : [];
    canvas.parentElement.classList.toggle("painted", points.length > 0);
    if (!points.length || !canvas.width) return;
    const style = getComputedStyle(document.documentElement);
    const context = canvas.getContext("2d");
    const box = { left: 46 * ratio, right: canvas.width - 10 * ratio, top: 8 * ratio, bottom: canvas.height - 28 * ratio };
    const warp = log ? Math.log10 : (v) => v;
    const [y0, y1] = yRange ?? range(points.map(([, y]) => warp(y)), log);
    const x0 = points[0][0];
    const x1 = points.length > 1 ? points[points.length - 1][0] : x0 + 1;
    const px = (x) => box.left + (x1 > x0 ? (x - x0) / (x1 - x0) : 0.5) * (box.right - box.left);
    const py = (y) => box.bottom - ((warp(y) - y0) / (y1 - y0)) * (box.bottom - box.top);
    context.font = `${11 * ratio}px system-ui, "Liberation Sans", sans-serif`;
    context.lineWidth = ratio;
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--dim");
    context.textAlign = "right";
    for (const tick of ticksOf(y0, y1, log)) {
      stroke(context, [[box.left, py(tick)], [box.right, py(tick)]]);
      context.fillText(small(tick), box.left - 5 * ratio, py(tick) + 4 * ratio);
    }
    context.textAlign = "center";
    const tell = data.xText ?? small;
    const step = Math.max(round125((x1 - x0) / 4 || 1), whole ? 1 : 0);
    let free = -Infinity; // labels that would overlap are left out
    for (let x = Math.ceil(x0 / step) * step; x <= x1 + step * 1e-6; x += step) {
      if (x < x0 - step * 1e-6) continue;
      stroke(context, [[px(x), box.bottom], [px(x), box.bottom + 3 * ratio]]);
      const half = context.measureText(tell(x)).width / 2;
      if (px(x) - half < free || px(x) + half > canvas.width) continue;
      context.fillText(tell(x), px(x), box.bottom + 13 * ratio);
      free = px(x) + half + 8 * ratio;
    }
    context.textAlign = "right";
    context.fillText(data.xLabel ?? xLabel, box.right, canvas.height - 4 * ratio);
    context.strokeStyle = style.getPropertyValue("--warn");
    context.fillStyle = style.getPropertyValue("--warn");
    for (const mark of data.marks ?? []) {
      if (mark.x < x0 || mark.x > x1) continue;
      context.setLineDash([4 * ratio, 3 * ratio]);
      stroke(context, [[px(mark.x), box.top], [px(mark.x), box.bottom]]);
      context.setLineDash([]);
      context.textAlign = px(mark.x) > (box.left + box.right) / 2 ? "right" : "left";
      context.fillText(mark.text, px(mark.x) + (context.textAlign === "left" ? 4 : -4) * ratio, box.top + 11 * ratio);
    }
    context.strokeStyle = context.fillStyle = style.getPropertyValue("--curve");
    context.lineWidth = 1.8 * ratio;
    context.save();
    context.beginPath();
    context.rect(box.left, box.top - 2, box.right - box.left + 4 * ratio, box.bottom - box.top + 4);
    context.clip();
    stroke(context, points.map(([x, y]) => [px(x), py(y)]));
    if (points.length < 2) dot(context, px(points[0][0]), py(points[0][1]), ratio);
    context.restore();
    const [lastX, lastY] = points[points.length - 1];
    dot(context, px(lastX), py(lastY), ratio);
  }
}

function dot(context, x, y, ratio) {
  context.beginPath();
  context.arc(x, y, 3 * ratio, 0, 7);
  context.fill();
}

function range(values, log) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max((high - low) * 0.08, log ? 0.05 : Math.abs(high) * 0.05, 1e-12);
  return [low - room, high + room];
}

/** Where the y axis is marked. */
function ticksOf(y0, y1, log) {
  if (!log) {
    const step = round125((y1 - y0) / 3);
    const first = Math.ceil(y0 / step - 1e-9);
    return Array.from({ length: Math.floor(y1 / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
  }
  const ticks = [];
  for (const factors of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    ticks.length = 0;
    for (let decade = Math.floor(y0); decade <= y1; decade++) {
      ticks.push(...factors.map((f) => f * 10 ** decade).filter((v) => Math.log10(v) >= y0 && Math.log10(v) <= y1));
    }
    if (ticks.length >= 3) return ticks;
  }
  const step = round125((10 ** y1 - 10 ** y0) / 3);
  return Array.from({ length: 5 }, (_, i) => (Math.ceil(10 ** y0 / step) + i) * step).filter((v) => v <= 10 ** y1);
}

function stroke(context, points) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}
