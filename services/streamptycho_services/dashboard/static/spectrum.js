// Power spectrum of the phase in view: which periods the picture holds, and whether something repeats that should not.

import { length, round125, small } from "./units.js";
import { ImageView, label } from "./view.js";

const MOST = 512; // pixels of a side that are transformed
const LEAST = 16;
const REST_MS = 400; // between two transforms, of up to 0.1 s each

/** Fourier transform in place of n complex numbers, a power of two, from `first` on in steps of `step`. */
function transform(re, im, first, step, n, turns) {
  for (let i = 1, j = 0; i < n; i++) { // bits reversed
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    const [a, b] = [first + i * step, first + j * step];
    [re[a], re[b]] = [re[b], re[a]];
    [im[a], im[b]] = [im[b], im[a]];
  }
  for (let size = 2; size <= n; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k++) {
      const c = turns.cos[(k * n) / size];
      const s = turns.sin[(k * n) / size];
      for (let i = k; i < n; i += size) {
        const a = first + i * step;
        const b = a + half * step;
        const r = re[b] * c - im[b] * s;
        const m = re[b] * s + im[b] * c;
        re[b] = re[a] - r;
        im[b] = im[a] - m;
        re[a] += r;
        im[a] += m;
      }
    }
  }
}

/** log10 of the power of n x n `values` (row by row, NaN: not known), zero frequency at [n/2, n/2].
 *
 * A Hann window, and the mean taken off under it: else the edges draw a cross over everything.
 */
export function powerSpectrum(values, n) {
  const hann = Float64Array.from({ length: n }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / n));
  let [sum, weight] = [0, 0];
  for (let i = 0; i < n * n; i++) {
    if (!Number.isFinite(values[i])) continue;
    const w = hann[Math.floor(i / n)] * hann[i % n];
    sum += w * values[i];
    weight += w;
  }
  const mean = weight ? sum / weight : 0;
  const re = Float64Array.from({ length: n * n }, (_, i) => (Number.isFinite(values[i]) ? (values[i] - mean) * hann[Math.floor(i / n)] * hann[i % n] : 0));
  const im = new Float64Array(n * n);
  const turns = { cos: new Float64Array(n / 2), sin: new Float64Array(n / 2) };
  for (let k = 0; k < n / 2; k++) [turns.cos[k], turns.sin[k]] = [Math.cos((2 * Math.PI * k) / n), -Math.sin((2 * Math.PI * k) / n)];
  for (let row = 0; row < n; row++) transform(re, im, row * n, 1, n, turns);
  for (let column = 0; column < n; column++) transform(re, im, column, n, n, turns);
  const power = new Float32Array(n * n);
  for (let i = 0; i < n * n; i++) {
    const to = ((Math.floor(i / n) + n / 2) % n) * n + ((i + n / 2) % n);
    power[to] = Math.log10(re[i] ** 2 + im[i] ** 2 + 1e-12);
  }
  return power;
}

/** The largest square of a power of two pixels in the middle of what a view shows: {top, left, n}, or null if too small. */
function region(view) {
  const { shape: [ny, nx], origin_m, pixel_m } = view.image;
  const within = ([a, b], i, n) => [a, b].map((place) => Math.min(Math.max(Math.round((place - origin_m[i]) / pixel_m[i]), 0), n));
  const corners = [view.toSample(0, 0), view.toSample(view.canvas.height, view.canvas.width)];
  const [y0, y1] = within(corners.map(([y]) => y), 0, ny);
  const [x0, x1] = within(corners.map(([, x]) => x), 1, nx);
  const room = Math.min(y1 - y0, x1 - x0, MOST);
  if (room < LEAST) return null;
  const n = 2 ** Math.floor(Math.log2(room));
  return { top: Math.floor((y0 + y1 - n) / 2), left: Math.floor((x0 + x1 - n) / 2), n };
}

export class Spectrum {
  /** Shows the spectrum of what `source`, an ImageView, has in view: of exact values where it has them. */
  constructor(canvas, source) {
    this.source = source;
    this.on = false;
    this.made = ""; // of which picture and region
    this.madeAt = -Infinity;
    this.timer = 0;
    this.view = new ImageView(canvas, { colours: "inferno", scale: false, bar: false });
    this.view.overlays = [axes];
  }

  clear() {
    this.made = "";
    this.view.clear();
  }

  show(on) {
    this.on = on;
    this.clear();
    this.source.schedule();
  }

  /** The source has been painted: mark what is transformed, and transform again if it shows something else, not too often. */
  follow(context) {
    if (!this.on) return;
    if (this.view.image) this.mark(context);
    if (this.timer) return;
    this.timer = setTimeout(() => { this.timer = 0; this.make(); }, Math.max(0, this.madeAt + REST_MS - performance.now()));
  }

  mark(context) {
    const { top, left, height, width } = this.view.image.where;
    const [y, x] = this.source.toScreen(top, left);
    const { zoom } = this.source.place();
    const ratio = window.devicePixelRatio || 1;
    context.lineWidth = 1.5 * ratio;
    context.strokeStyle = "#ffb000";
    context.setLineDash([6 * ratio, 4 * ratio]);
    context.strokeRect(x, y, width * zoom, height * zoom);
    context.setLineDash([]);
  }

  make() {
    const { image } = this.source;
    const part = this.on && image ? region(this.source) : null;
    const key = JSON.stringify([image?.scan, image?.sequence, part, Boolean(image?.exact)]);
    if (!part || key === this.made) return;
    [this.made, this.madeAt] = [key, performance.now()];
    this.set(image, part);
  }

  set(image, { top, left, n }) {
    const nx = image.shape[1];
    const { data: bytes, lo: low, hi: high } = image;
    const coarse = (at) => (bytes[at] ? low + ((bytes[at] - 1) / 254) * (high - low) : NaN); // looking back there is no other
    const value = image.exact ? (at) => image.exact[at] : coarse;
    const power = powerSpectrum(Float32Array.from({ length: n * n }, (_, i) => value((top + Math.floor(i / n)) * nx + left + (i % n))), n);
    const ordered = power.slice().sort();
    const [lo, hi] = [0.05, 0.999].map((part) => ordered[Math.floor(part * (ordered.length - 1))]);
    const span = hi - lo || 1;
    const data = Uint8Array.from(power, (value) => 1 + Math.round(254 * Math.min(Math.max((value - lo) / span, 0), 1)));
    const pixel_m = image.pixel_m.map((pixel) => 1 / (n * pixel)); // here: per metre
    const origin_m = pixel_m.map((step) => (-n / 2) * step);
    const [dy, dx] = image.pixel_m;
    const where = { top: image.origin_m[0] + (top - 0.5) * dy, left: image.origin_m[1] + (left - 0.5) * dx, height: n * dy, width: n * dx };
    this.view.set({ shape: [n, n], data, lo, hi, pixel_m, origin_m, exact: power, part: { top, left, n }, where });
    this.source.schedule();
    this.view.canvas.setAttribute("aria-label", `Power spectrum of ${n} by ${n} pixels of the object phase, to ${perMicron(-origin_m[1])}`);
  }

  /** Where in the spectrum, in words. */
  tell(y, x) {
    const size = Math.hypot(y, x);
    return `${perMicron(size)}${size > 0 ? `, period ${length(1 / size)}` : ""}`;
  }
}

const perMicron = (frequency) => `${small(frequency * 1e-6)} /µm`;

/** Frequencies along the lower and the left edge. */
function axes(context, view) {
  const ratio = window.devicePixelRatio || 1;
  const { canvas } = view;
  const { top, left, height, width } = view.bounds();
  const step = round125(canvas.width / 3 / view.place().zoom);
  const ticks = (low, size) => Array.from({ length: Math.floor((low + size) / step) - Math.ceil(low / step) + 1 }, (_, i) => Math.ceil(low / step) + i);
  const name = (tick) => small(tick * step * 1e-6);
  for (const tick of ticks(left, width)) {
    const [, x] = view.toScreen(0, tick * step);
    if (x < 34 * ratio || x > canvas.width - 24 * ratio) continue;
    label(context, name(tick), x, canvas.height - 8 * ratio, "center");
    context.fillRect(x, canvas.height - 5 * ratio, ratio, 5 * ratio);
  }
  for (const tick of ticks(top, height)) {
    const [y] = view.toScreen(tick * step, 0);
    if (y < 30 * ratio || y > canvas.height - 26 * ratio) continue;
    label(context, name(tick), 8 * ratio, y + 4 * ratio);
    context.fillRect(0, y, 5 * ratio, ratio);
  }
  label(context, "power, log · 1/µm", canvas.width / 2, 16 * ratio, "center");
}
