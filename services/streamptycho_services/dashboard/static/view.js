// A picture that can be zoomed and moved; what it shows is kept in metres, so that a growing picture does not jump.

import { colourAt, lookup } from "./colours.js";
import { length, round125, small } from "./units.js";

const MOST_ZOOM = 64; // screen pixels per picture pixel
const BAR = 64; // screen pixels that the colour bar takes

export class ImageView {
  constructor(canvas, { colours = "gray", unit = "m", bar = true, scale = true, interactive = true } = {}) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.colours = colours;
    this.unit = unit;
    this.bar = bar;
    this.scale = scale;
    this.image = null;
    this.locked = null;
    this.view = null; // {y, x, zoom}: centre in metres, screen pixels per metre; null shows all
    this.overlays = [];
    this.onpaint = () => {};
    this.onhover = () => {};
    this.sheet = document.createElement("canvas");
    this.special = null; // (table) => void: colours of bytes that are no values
    new ResizeObserver(() => this.resize()).observe(canvas);
    if (interactive) this.listen();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(this.canvas.clientWidth * ratio), Math.round(this.canvas.clientHeight * ratio)];
    if (w && h && (w !== this.canvas.width || h !== this.canvas.height)) {
      Object.assign(this.canvas, { width: w, height: h });
      this.paint();
    }
  }

  /** A new picture: {shape, data, lo, hi, origin_m, pixel_m, ...}. */
  set(image) {
    this.image = image;
    this.colour();
    this.schedule(true);
  }

  clear() {
    this.image = null;
    this.fresh = false;
    this.schedule();
  }

  get range() {
    return this.locked ?? (this.image ? [this.image.lo, this.image.hi] : [0, 1]);
  }

  recolour() {
    if (this.image) this.colour();
    this.schedule();
  }

  colour() {
    const { shape: [ny, nx], data, lo, hi } = this.image;
    const table = lookup(this.colours, [lo, hi], this.range);
    if (this.special) this.special(table);
    if (this.sheet.width !== nx || this.sheet.height !== ny) Object.assign(this.sheet, { width: nx, height: ny });
    const pixels = new ImageData(nx, ny);
    const packed = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < packed.length; i++) packed[i] = table[data[i]];
    this.sheet.getContext("2d").putImageData(pixels, 0, 0);
  }

  schedule(fresh = false) {
    this.fresh ||= fresh;
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      const painted = this.fresh;
      this.fresh = false;
      this.paint();
      if (painted) this.onpaint(this.image);
    });
  }

  /** Where the picture lies: top, left, height and width in metres. */
  bounds() {
    const { shape: [ny, nx], origin_m: [y, x], pixel_m: [dy, dx] } = this.image;
    return { top: y - dy / 2, left: x - dx / 2, height: ny * dy, width: nx * dx };
  }

  place() {
    if (this.view) return this.view;
    const { top, left, height, width } = this.bounds();
    const room = this.bar ? BAR * (window.devicePixelRatio || 1) : 0; // the bar hides nothing as long as all is shown
    const zoom = 0.97 * Math.min((this.canvas.width - room) / width, this.canvas.height / height);
    return { y: top + height / 2, x: left + width / 2 + room / 2 / zoom, zoom };
  }

  toScreen(y, x) {
    const at = this.place();
    return [(y - at.y) * at.zoom + this.canvas.height / 2, (x - at.x) * at.zoom + this.canvas.width / 2];
  }

  toSample(sy, sx) {
    const at = this.place();
    return [(sy - this.canvas.height / 2) / at.zoom + at.y, (sx - this.canvas.width / 2) / at.zoom + at.x];
  }

  paint() {
    const { context, canvas, image } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    canvas.parentElement.classList.toggle("painted", image !== null);
    if (!image || !canvas.width) return;
    const { top, left, height, width } = this.bounds();
    const [sy, sx] = this.toScreen(top, left);
    const { zoom } = this.place();
    context.imageSmoothingEnabled = zoom * image.pixel_m[0] < 1;
    context.drawImage(this.sheet, sx, sy, width * zoom, height * zoom);
    for (const overlay of this.overlays) overlay(context, this);
    if (this.scale) drawScale(context, canvas, zoom);
    if (this.bar) this.drawBar();
  }

  drawBar() {
    const { context, canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [h, w, x, y] = [Math.min(150 * ratio, canvas.height * 0.4), 10 * ratio, canvas.width - 18 * ratio, 18 * ratio];
    for (let i = 0; i < h; i++) {
      context.fillStyle = `rgb(${colourAt(this.colours, 1 - i / h).join()})`;
      context.fillRect(x, y + i, w, 1.5);
    }
    const [low, high] = this.range;
    const unit = this.image.unit ? ` ${this.image.unit}` : "";
    label(context, small(high) + unit, canvas.width - 6 * ratio, y - 5 * ratio, "right");
    label(context, small(low) + unit, canvas.width - 6 * ratio, y + h + 13 * ratio, "right");
  }

  /** Value of the picture at a place, from the bytes; NaN outside. */
  valueAt(y, x) {
    const { shape: [ny, nx], data, lo, hi, origin_m, pixel_m } = this.image;
    const [i, j] = [Math.round((y - origin_m[0]) / pixel_m[0]), Math.round((x - origin_m[1]) / pixel_m[1])];
    if (i < 0 || j < 0 || i >= ny || j >= nx) return NaN;
    const value = data[i * nx + j];
    if (value === 0) return NaN;
    return this.image.exact ? this.image.exact[i * nx + j] : lo + ((value - 1) / 254) * (hi - lo);
  }

  zoomBy(factor, sy = this.canvas.height / 2, sx = this.canvas.width / 2) {
    if (!this.image) return;
    const [y, x] = this.toSample(sy, sx);
    const at = this.place();
    const most = MOST_ZOOM / this.image.pixel_m[0];
    const { height, width } = this.bounds();
    const least = 0.2 * Math.min(this.canvas.width / width, this.canvas.height / height);
    const zoom = Math.min(Math.max(at.zoom * factor, least), most);
    const keep = at.zoom / zoom;
    this.view = { zoom, y: y + (at.y - y) * keep, x: x + (at.x - x) * keep };
    this.schedule();
  }

  moveBy(dy, dx) {
    if (!this.image) return;
    const at = this.place();
    this.view = { ...at, y: at.y - dy / at.zoom, x: at.x - dx / at.zoom };
    this.schedule();
  }

  fit() {
    this.view = null;
    this.schedule();
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    return [(event.clientY - box.top) * ratio, (event.clientX - box.left) * ratio];
  }

  listen() {
    const { canvas } = this;
    const fingers = new Map();
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 400), ...this.point(event));
    }, { passive: false });
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, this.point(event));
      if (this.drag && this.image) this.line = [this.toSample(...this.point(event)), this.toSample(...this.point(event))];
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = this.point(event);
      if (this.image) this.onhover(...this.toSample(...now));
      const before = fingers.get(event.pointerId);
      if (!before) return;
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
        const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
        this.zoomBy(apart(now) / Math.max(apart(before), 1), ...other);
      } else if (this.drag && this.image && this.line) {
        this.line = [this.line[0], this.toSample(...now)];
        this.schedule();
      } else this.moveBy(now[0] - before[0], now[1] - before[1]);
      fingers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.canvas.height / 10;
    const acts = {
      "+": () => this.zoomBy(1.3), "=": () => this.zoomBy(1.3), "-": () => this.zoomBy(1 / 1.3), 0: () => this.fit(),
      ArrowUp: () => this.moveBy(step, 0), ArrowDown: () => this.moveBy(-step, 0),
      ArrowLeft: () => this.moveBy(0, step), ArrowRight: () => this.moveBy(0, -step),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }
}

/** Text that can be read on any picture. */
export function label(context, text, x, y, align = "left") {
  const ratio = window.devicePixelRatio || 1;
  context.font = `600 ${12 * ratio}px system-ui, "Liberation Sans", sans-serif`;
  context.textAlign = align;
  context.lineJoin = "round";
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "#000b";
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}

/** A round length of about a fifth of the width. */
export function drawScale(context, { width, height }, zoom) {
  const ratio = window.devicePixelRatio || 1;
  const metres = round125(width / 5 / zoom);
  const [x, y, pixels] = [12 * ratio, height - 14 * ratio, metres * zoom];
  context.fillStyle = "#000b";
  context.fillRect(x - 2 * ratio, y - 2 * ratio, pixels + 4 * ratio, 8 * ratio);
  context.fillStyle = "#fff";
  context.fillRect(x, y, pixels, 4 * ratio);
  label(context, length(metres), x, y - 6 * ratio);
}
