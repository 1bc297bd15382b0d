// Colour maps: the server sends 8 bits, colour and contrast are the browser's.

const STOPS = {
  gray: "000000ffffff",
  viridis: "44015448186a472d7b4240863b528b33638d2c728e26828e21918c1fa08828ae803fbc735ec96284d44baddc30d8e219fde725",
  inferno: "0000040b0724210c4a3d096557106e71196e8a226aa32c61bc3754d24644e45a31f1731df98e09fcac11f9cb35f2ea69fcffa4",
  twilight: "e2d9e2c4ced495b5c77297c16276ba5e51ad592a8f45135c2f14364a1342741e4f983550b25652c27c63cca389d8c7bee2d9e2",
};
export const COLOUR_MAPS = Object.keys(STOPS);

/** Red, green and blue (0 to 255) of a colour map at t in 0 to 1. */
export function colourAt(name, t) {
  const stops = STOPS[name] ?? STOPS.gray;
  const last = stops.length / 6 - 1;
  const place = Math.min(Math.max(t, 0), 1) * last;
  const i = Math.min(Math.floor(place), last - 1);
  const part = (k, c) => parseInt(stops.substr(6 * k + 2 * c, 2), 16);
  return [0, 1, 2].map((c) => Math.round(part(i, c) + (place - i) * (part(i + 1, c) - part(i, c))));
}

export const rgba = (r, g, b, a = 255) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** 256 packed pixels: byte 0 is transparent, 1 to 255 are values from lo to hi, shown with contrast from low to high. */
export function lookup(name, [lo, hi], [low, high]) {
  const table = new Uint32Array(256);
  const span = high - low || 1;
  for (let i = 1; i < 256; i++) {
    const value = lo + ((i - 1) / 254) * (hi - lo);
    table[i] = rgba(...colourAt(name, (value - low) / span));
  }
  return table;
}

/** Packed pixel of a complex value: hue from the phase (0 to 1), brightness from the amplitude (0 to 1). */
export function hue(amplitude, phase) {
  const channel = (n) => {
    const k = (n + phase * 6) % 6;
    return Math.round(255 * amplitude * (1 - 0.9 * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return rgba(channel(5), channel(3), channel(1));
}
