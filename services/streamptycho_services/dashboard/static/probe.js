// Probe modes side by side, as complex values (colour: phase), amplitudes or phases.

import { colourAt, hue, rgba } from "./colours.js";
import { drawScale, label } from "./view.js";

export class ProbeView {
  constructor(canvas) {
    this.canvas = canvas;
    this.as = "complex";
    this.image = null;
    this.sheets = [];
    this.onpaint = () => {};
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  /** {shape: [modes, 2, n, n], data, power, pixel_m}. */
  set(image) {
    this.image = image;
    this.colour();
    requestAnimationFrame(() => { this.paint(); this.onpaint(); });
  }

  clear() {
    this.image = null;
    requestAnimationFrame(() => this.paint());
  }

  show(as) {
    this.as = as;
    if (this.image) this.set(this.image);
  }

  colour() {
    const { shape: [modes, , ny, nx], data } = this.image;
    const gray = Uint32Array.from({ length: 256 }, (_, i) => rgba(i, i, i));
    const cycle = Uint32Array.from({ length: 256 }, (_, i) => rgba(...colourAt("twilight", i / 255)));
    this.sheets = Array.from({ length: modes }, (_, mode) => {
      const sheet = Object.assign(document.createElement("canvas"), { width: nx, height: ny });
      const pixels = new ImageData(nx, ny);
      const packed = new Uint32Array(pixels.data.buffer);
      const size = ny * nx;
      const [amplitude, phase] = [2 * mode * size, (2 * mode + 1) * size];
      for (let i = 0; i < size; i++) {
        const [a, p] = [data[amplitude + i], data[phase + i]];
        packed[i] = this.as === "complex" ? hue(a / 255, p / 255) : this.as === "amplitude" ? gray[a] : cycle[p];
      }
      sheet.getContext("2d").putImageData(pixels, 0, 0);
      return sheet;
    });
  }

  paint() {
    const { canvas, image } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    canvas.parentElement.classList.toggle("painted", image !== null);
    if (!image || !canvas.width) return;
    const context = canvas.getContext("2d");
    const { side, across } = this.tiles();
    const left = (canvas.width - across * side) / 2;
    const down = Math.ceil(this.sheets.length / across);
    const top = (canvas.height - down * side) / 2;
    context.imageSmoothingEnabled = false;
    this.sheets.forEach((sheet, i) => {
      const [x, y] = [left + (i % across) * side, top + Math.floor(i / across) * side];
      context.drawImage(sheet, x + ratio, y + ratio, side - 2 * ratio, side - 2 * ratio);
      label(context, `${(100 * image.power[i]).toFixed(this.sheets.length > 1 ? 1 : 0)} %`, x + 6 * ratio, y + 16 * ratio);
    });
    drawScale(context, canvas, side / (image.shape[3] * image.pixel_m[1]));
  }

  /** Side of a tile and tiles in a row, so that they are as large as they can be. */
  tiles() {
    const n = this.sheets.length;
    let best = { side: 0, across: 1 };
    for (let across = 1; across <= n; across++) {
      const side = Math.min(this.canvas.width / across, this.canvas.height / Math.ceil(n / across));
      if (side > best.side) best = { side, across };
    }
    return best;
  }
}
