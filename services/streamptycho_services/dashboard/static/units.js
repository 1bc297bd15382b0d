// Numbers for people.

const LENGTHS = [[1e-3, "mm"], [1e-6, "µm"], [1e-9, "nm"], [1e-12, "pm"]];

export function length(metres, digits = 3) {
  const size = Math.abs(metres);
  const [unit, name] = LENGTHS.find(([limit]) => size >= 0.9995 * limit) ?? LENGTHS[LENGTHS.length - 1];
  return `${Number((metres / unit).toPrecision(digits))} ${name}`;
}

/** The largest of 1, 2, 5, 10... times a power of ten that is not above a target. */
export function round125(target) {
  const decade = 10 ** Math.floor(Math.log10(target));
  return [5, 2, 1].map((n) => n * decade).find((n) => n <= target * 1.0001) ?? decade;
}

export function seconds(value) {
  if (value >= 5400) return `${(value / 3600).toFixed(1)} h`;
  if (value >= 100) return `${Math.round(value / 60)} min`;
  return value >= 10 ? `${Math.round(value)} s` : `${value.toFixed(1)} s`;
}

export function count(value) {
  return value >= 1e6 ? `${(value / 1e6).toPrecision(3)} M` : Math.round(value).toLocaleString("en");
}

export const small = (value) => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());
