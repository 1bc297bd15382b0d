// The page: takes messages to their panels, and asks for the next one when a panel has been painted.

import { COLOUR_MAPS, rgba } from "./colours.js";
import { controlPanel } from "./control.js";
import { Link } from "./link.js";
import { coverage, crop, legend, measure } from "./overlays.js";
import { Plot } from "./plot.js";
import { ProbeView } from "./probe.js";
import { Spectrum } from "./spectrum.js";
import { showFacts, showScans, showVerdict, staleness, write } from "./strip.js";
import { count, length, small } from "./units.js";
import { ImageView, drawScale, label } from "./view.js";

const $ = (id) => document.getElementById(id);
const kept = { // what a browser without storage forgets
  get: (name) => { try { return localStorage.getItem(`streamptycho.${name}`); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(`streamptycho.${name}`, value); } catch { /* asked again next time */ } },
};

const phase = new ImageView($("phase"));
const amplitude = new ImageView($("amplitude"));
const pattern = new ImageView($("pattern"), { colours: "inferno", scale: false, bar: false });
const spectrum = new Spectrum($("spectrum"), phase);
const quad = ["map-sum", "map-dark", "map-y", "map-x"].map((id) => new ImageView($(id), { bar: false, scale: id === "map-sum", interactive: false }));
const curve = new Plot($("curve"), { log: true, whole: true, xLabel: "pass" });
const ring = new Plot($("ring"), { xLabel: "period", yRange: [-0.05, 1.05] });
const probe = new ProbeView($("probe"));
const images = { phase, amplitude };
const ALWAYS = ["phase", "pattern", "maps", "curve", "probe", "amplitude", "moments", "ring"];
const painted = []; // when which snapshot was on the screen: for measuring
let report = null;
let reportAt = 0;
let connection = { state: "connecting", text: "" };
let goneAt = 0;
let key = null;
let moments = [];
let chosen = null;
let moment = null;
let exact = null;

window.streamptycho = { painted, phase, pattern, spectrum };

const takers = {
  hello: ({ control }) => { if (control && !$("control")) document.querySelector("main").before(controlPanel(act)); else if (!control) $("control")?.remove(); },
  answer: ({ action, text }) => write($("answer"), `${action.replace("_", " ")}: ${text}`),
  status: takeStatus,
  phase: (header, data) => takeImage("phase", header, data),
  amplitude: (header, data) => takeImage("amplitude", header, data),
  exact: takeExact,
  pattern: takePattern,
  maps: takeMaps,
  coverage: takeCoverage,
  probe: (header, data) => { probe.set({ ...header, data }); write($("n-probe"), header.modes > 1 ? `${header.modes} modes` : ""); },
  curve: takeCurve,
  ring: takeRing,
  moments: takeMoments,
};

const asked = new URLSearchParams(location.search).get("quality");
if (["raw", "jpeg"].includes(asked)) kept.set("quality", asked);
const quality = asked === "jpeg" || (asked !== "raw" && kept.get("quality") === "jpeg") ? "jpeg" : "raw";
toggle($("jpeg"), quality === "jpeg");
const link = new Link(
  (header, data) => {
    const scan = header.item === "status" ? header.key : header.scan;
    if (scan && scan !== key) begin(scan);
    takers[header.item](header, data);
  },
  (state, text) => {
    if (state === "gone" && connection.state !== "gone") goneAt = performance.now();
    connection = { state, text: text || (state === "gone" ? connection.text : "") };
    tell();
  },
  quality,
);
link.want("status", ...ALWAYS);

/** Ask for the next message of an item when the browser draws next: a page that nobody sees asks for nothing. */
function again(item) {
  requestAnimationFrame(() => link.want(item));
}

function takeStatus(header) {
  report = header;
  reportAt = performance.now();
  if (chosen && !header.scans.some((scan) => scan.key === chosen)) { // the server knows it no more
    chosen = null;
    link.show(null, null);
  }
  showScans(header, chosen);
  showVerdict(header.facts, header.stream_remarks);
  showError(header.facts?.error ?? null);
  tell();
  const done = header.facts?.expected ? `${Math.round((100 * header.facts.received) / header.facts.expected)} % ` : "";
  document.title = header.facts ? `${done}${header.facts.scan} · streamptycho` : "streamptycho";
  setTimeout(() => link.want("status"), 100);
}

/** Another scan: nothing of the last one stays but zoom, contrast and tools. */
function begin(next) {
  if (key !== null) {
    for (const view of [phase, spectrum, amplitude, pattern, ...quad, curve, ring, probe]) view.clear();
    for (const note of document.querySelectorAll(".note")) write(note, "");
    moments = [];
    uncover();
    moment = null;
    showMoments();
    link.show(chosen, null); // all of it anew
    link.want(...ALWAYS);
  }
  key = next;
}

/** The newest phase gets its exact values, whichever of them came first. */
function join() {
  const { image } = phase;
  if (image && exact && image.scan === exact.scan && image.sequence === exact.sequence) image.exact = exact.data;
}

function takeImage(item, header, data) {
  images[item].set({ ...header, data });
  if (item === "phase") join();
  const [lo, hi] = [small(header.lo), small(header.hi)];
  images[item].canvas.setAttribute("aria-label", `Object ${item} from ${header.frames} frames, ${lo} to ${hi} ${header.unit}`);
}

function takeExact(header, data) {
  exact = { ...header, data };
  join();
  phase.schedule();
  if (needsExact()) again("exact");
}

const needsExact = () => phase.drag === "cut" || spectrum.on;

function takeCoverage(header, data) {
  if ($("cover").getAttribute("aria-pressed") !== "true") return;
  phase.overlays[0] = coverage({ ...header, data });
  $("points").replaceChildren(...legend(header));
  phase.schedule();
  again("coverage");
}

function uncover() {
  phase.overlays[0] = () => {};
  $("points").replaceChildren();
}

function takePattern(header, data) {
  pattern.set({ ...header, data, origin_m: [0, 0], pixel_m: [1, 1], unit: "" });
  const saturated = header.saturated ? `${count(header.saturated)} saturated · ` : "";
  write($("n-pattern"), `${saturated}max ${small(header.largest)} · no. ${count(header.index)}`);
}

function takeMaps(header, data) {
  const [, ny, nx] = header.shape;
  quad.forEach((view, i) => {
    const part = data.subarray(i * ny * nx, (i + 1) * ny * nx);
    view.set({ ...header, shape: [ny, nx], data: part, lo: header.lo[i], hi: header.hi[i], unit: i < 2 ? "counts" : "px" });
  });
  $("map-sum").closest(".picture").classList.add("painted");
  write($("n-maps"), `${count(header.points)}${header.known > header.points ? ` of ${count(header.known)}` : ""} points`);
}

function takeCurve({ passes, errors, restarts, newest }) {
  const [x, y] = passes.length ? [passes, errors] : [[0], [newest]];
  curve.set({ x, y, marks: restarts.map((at) => ({ x: at + 0.5, text: "restart" })) });
  showError(report?.facts && report.key === key ? report.facts.error : newest);
}

/** Beside the curve, the same error as in the strip. */
function showError(error) {
  write($("n-curve"), error === null ? "" : small(error));
  $("curve").setAttribute("aria-label", `Fourier error by pass, now ${error === null ? "unknown" : small(error)}`);
}

function takeRing({ frequency_per_m, correlation, resolution_m }) {
  const marks = resolution_m ? [{ x: 1 / resolution_m, text: length(resolution_m, 2) }] : [];
  const xText = (f) => (f > 0 ? length(1 / f, 2) : "∞");
  ring.set({ x: frequency_per_m, y: correlation, marks, xText });
  write($("n-ring"), resolution_m ? length(resolution_m, 2) : "");
}

function takeMoments(header) {
  moments = header.moments;
  const away = ({ sequence }) => Math.abs(sequence - moment);
  if (moment !== null && moments.length && !moments.some((kept) => away(kept) === 0)) {
    look(moments.reduce((a, b) => (away(b) < away(a) ? b : a)).sequence); // what was looked at has been thinned out
  } else {
    showMoments();
  }
  again("moments");
}

/** The slider: one step per kept snapshot, and the last step is live. */
function showMoments() {
  const slider = $("moment");
  slider.max = moments.length;
  const at = moments.findIndex(({ sequence }) => sequence === moment);
  slider.value = at < 0 ? moments.length : at;
  slider.disabled = moments.length === 0;
  const text = at < 0 ? "live" : `${count(moments[at].frames)} frames · error ${small(moments[at].error ?? NaN)}`;
  slider.setAttribute("aria-valuetext", text);
  write($("when"), text);
  $("live").disabled = moment === null;
}

function look(sequence) {
  moment = sequence;
  link.show(chosen, moment);
  showMoments();
}

function act(action, value) {
  if (report?.facts) link.send({ command: { action, scan_id: report.facts.scan, started_ns: report.facts.started_ns, value } });
  write($("answer"), report?.facts ? `${action.replace("_", " ")}…` : "there is no scan");
}

/** What depends on the time that passes, connected or not. */
function tell() {
  const quietS = report ? (performance.now() - reportAt) / 1000 : 0;
  const connected = connection.state === "live";
  const lostS = connected ? quietS : Math.max(quietS, (performance.now() - goneAt) / 1000);
  const text = connection.state === "connecting" ? "" : staleness(report, lostS, connected, connection.text, "Trying again.");
  const finished = !connected && report?.facts?.state === "done";
  document.body.classList.toggle("stale", text !== "" && !finished);
  $("stale").hidden = text === "";
  write($("stale"), text);
  $("lamp").dataset.is = connected ? (text ? "stale" : "live") : connection.state;
  write($("lamp").lastElementChild, connected ? (text ? "stale" : "live") : connection.state === "gone" ? "lost" : "connecting");
  showFacts(report?.facts ?? null, quietS);
}
setInterval(tell, 250);

// painting done: the next picture, please
phase.onpaint = (image) => {
  const { sequence, newest_ns, time_ns, frames } = image;
  painted.push({ sequence, newest_ns, time_ns, frames, at_ms: Date.now() });
  if (painted.length > 500) painted.shift();
  link.want(...(needsExact() ? ["phase", "exact"] : ["phase"]));
};
amplitude.onpaint = () => link.want("amplitude");
pattern.onpaint = () => link.want("pattern");
quad[3].onpaint = () => link.want("maps");
probe.onpaint = () => link.want("probe");
curve.onpaint = () => link.want("curve");
ring.onpaint = () => link.want("ring");

pattern.special = (table) => { table[0] = rgba(40, 62, 92); table[255] = rgba(255, 40, 60); };
pattern.overlays = [crop];
phase.overlays = [() => {}, measure(phase), (context) => spectrum.follow(context)];
spectrum.view.onhover = (y, x) => write($("readout"), spectrum.tell(y, x));
phase.onhover = (y, x) => {
  const value = phase.valueAt(y, x);
  write($("readout"), Number.isFinite(value) ? `${value.toFixed(3)} rad at ${length(y)}, ${length(x)}` : "");
};

function toggle(button, on) {
  button.setAttribute("aria-pressed", String(on));
  return on;
}

$("lock").onclick = () => { phase.locked = toggle($("lock"), !phase.locked) ? [...phase.range] : null; phase.recolour(); };
$("cover").onclick = () => {
  if (toggle($("cover"), $("cover").getAttribute("aria-pressed") !== "true")) link.want("coverage");
  else { link.drop("coverage"); uncover(); phase.schedule(); }
};
for (const tool of ["ruler", "cut"]) {
  $(tool).onclick = () => {
    phase.drag = phase.drag === tool ? null : tool;
    for (const other of ["ruler", "cut"]) toggle($(other), phase.drag === other);
    wantExact();
    if (!phase.drag) phase.line = null;
    phase.schedule();
  };
}
function wantExact() {
  if (needsExact()) link.want("exact"); else link.drop("exact");
}

$("fft").onclick = () => {
  const on = toggle($("fft"), !spectrum.on);
  $("spectrum-of").hidden = !on;
  $("phase").parentElement.classList.toggle("split", on);
  spectrum.show(on);
  wantExact();
};
$("fit").onclick = () => phase.fit();
$("save").onclick = savePicture;
$("jpeg").onclick = () => {
  const chosenQuality = toggle($("jpeg"), link.quality !== "jpeg") ? "jpeg" : "raw";
  kept.set("quality", chosenQuality);
  link.ask(chosenQuality);
};
$("live").onclick = () => look(null);
$("moment").oninput = ({ target }) => look(moments[target.value]?.sequence ?? null);
$("scans").onchange = ({ target }) => { chosen = target.value || null; moment = null; link.show(chosen, null); showMoments(); };
$("probe-as").onchange = ({ target }) => probe.show(target.value);
$("colours").append(...COLOUR_MAPS.map((name) => new Option(name)));
$("colours").value = kept.get("colours") ?? "gray";
$("colours").onchange = ({ target }) => {
  kept.set("colours", target.value);
  for (const view of [phase, amplitude, ...quad]) { view.colours = target.value; view.recolour(); }
};
for (const view of [phase, amplitude, ...quad]) view.colours = $("colours").value;
$("phase").addEventListener("keydown", (event) => {
  const button = { l: "lock", c: "cover", r: "ruler", x: "cut", f: "fft", s: "save" }[event.key];
  if (button && !event.ctrlKey && !event.metaKey) $(button).click();
});

for (const panel of document.querySelectorAll(".panel")) {
  const name = panel.querySelector("h2").textContent;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "grow", textContent: "⤢" });
  button.setAttribute("aria-label", `Enlarge ${name}`);
  button.setAttribute("aria-pressed", "false");
  button.onclick = () => toggle(button, panel.classList.toggle("big"));
  panel.querySelector(".head").append(button);
}

/** The whole picture at its own resolution, with a line of figures below. */
function savePicture() {
  const { image } = phase;
  if (!image) return;
  const [ny, nx] = image.shape;
  const zoom = Math.max(1, Math.floor(800 / Math.max(ny, nx)));
  const sheet = Object.assign(document.createElement("canvas"), { width: nx * zoom, height: ny * zoom + 34 });
  const context = sheet.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.imageSmoothingEnabled = false;
  context.drawImage(phase.sheet, 0, 0, nx * zoom, ny * zoom);
  drawScale(context, { width: sheet.width, height: ny * zoom }, zoom / image.pixel_m[1]);
  const scan = report?.facts?.scan ?? "scan";
  label(context, `${scan} · ${image.frames} frames · ${small(phase.range[0])} to ${small(phase.range[1])} rad`, 8, sheet.height - 11);
  sheet.toBlob((blob) => {
    const anchor = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${scan.replaceAll(/[^\w.-]/g, "_")}-phase-${image.frames}.png` });
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
  });
}

function dress(theme) {
  document.documentElement.dataset.theme = theme;
  for (const view of [curve, ring]) view.paint();
}
const dark = matchMedia("(prefers-color-scheme: dark)");
dress(kept.get("theme") ?? (dark.matches ? "dark" : "light"));
dark.onchange = () => { if (!kept.get("theme")) dress(dark.matches ? "dark" : "light"); };
$("theme").onclick = () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  kept.set("theme", theme);
  dress(theme);
};
