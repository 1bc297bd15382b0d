// The health strip and the verdict: words and numbers.

import { count, length, seconds, small } from "./units.js";

const ACTIVE = ["receiving", "searching", "reconstructing", "polishing"];
const QUIET_S = 3;
const $ = (id) => document.getElementById(id);

/** Put text where it differs: a page that is not changed needs no drawing. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const drops = (dropped) => Object.entries(dropped).filter(([, n]) => n).map(([reason, n]) => `${n} ${reason.replaceAll("_", " ")}`).join(", ");

/** Name, value, remark, and whether it is a worry, of each figure. */
function tiles(facts, ageS) {
  const lost = Object.values(facts.dropped).reduce((a, b) => a + b, 0);
  const lag = facts.lag_s;
  const age = facts.picture_age_s === null ? null : facts.picture_age_s + ageS;
  const active = ACTIVE.includes(facts.state);
  return [
    ["received", count(facts.received), facts.expected === null ? "" : `/ ${count(facts.expected)}`, ""],
    ["used", count(facts.used), facts.waiting ? `+ ${count(facts.waiting)}` : "", ""],
    ["dropped", count(lost), drops(facts.dropped), lost ? "warn" : ""],
    facts.missing === null
      ? ["without position", facts.unmatched === null ? "–" : count(facts.unmatched), facts.gaps ? `${count(facts.gaps)} gaps` : "", ""]
      : ["missing", count(facts.missing), facts.missing_positions ? `+ ${count(facts.missing_positions)} positions` : "", facts.missing || facts.missing_positions ? "bad" : ""],
    ["rate", facts.rate_hz ? `${facts.rate_hz.toFixed(facts.rate_hz < 10 ? 1 : 0)} /s` : "–", "", ""],
    ["lag", lag === null || lag === undefined ? "–" : seconds(lag), "", lag > 5 ? "bad" : lag > 1.5 ? "warn" : ""],
    ["picture", age === null ? "–" : facts.final ? "final" : `${seconds(age)} old`, "", active && age > 5 ? "warn" : ""],
    ["to go", facts.eta_s === null ? "–" : seconds(facts.eta_s), "", ""],
    ["error", facts.error === null ? "–" : small(facts.error), "", ""],
    ["passes", facts.passes ? count(facts.passes) : "–", facts.updates_hz ? `${count(facts.updates_hz)} upd/s` : "", ""],
    ["written", facts.written === null ? "–" : count(facts.written), "", facts.write_problem ? "bad" : ""],
    ["device", facts.device ?? "–", "", ""],
  ];
}

export function showFacts(facts, ageS) {
  const list = $("facts");
  const all = facts ? tiles(facts, ageS) : [];
  while (list.children.length > all.length) list.lastChild.remove();
  all.forEach(([name, value, remark, worry], i) => {
    let tile = list.children[i];
    if (!tile) {
      tile = document.createElement("div");
      tile.innerHTML = "<dt></dt><dd><span></span> <small></small></dd>";
      list.append(tile);
    }
    if (tile.className !== worry) tile.className = worry;
    write(tile.firstChild, name);
    write(tile.querySelector("span"), value);
    write(tile.querySelector("small"), remark);
    const more = { used: remark ? "waiting" : "", written: facts.file ?? "" }[name] ?? "";
    const full = `${name}: ${value} ${remark} ${more}`.trim();
    if (tile.title !== full) tile.title = full;
  });
  showProgress(facts);
}

function showProgress(facts) {
  const bar = $("progress");
  const total = facts?.expected;
  const share = (n) => (total ? Math.min(100, (100 * n) / total) : 0);
  bar.querySelector("i").style.width = `${share(facts?.received ?? 0)}%`;
  bar.querySelector("b").style.width = `${share(facts?.used ?? 0)}%`;
  bar.setAttribute("aria-valuenow", Math.round(share(facts?.received ?? 0)));
  write(bar.querySelector("span"), total ? `${Math.round(share(facts.received))} %` : facts ? `${count(facts.received)} frames` : "");
  const state = facts?.state ?? "waiting for a scan";
  const remarks = [facts?.end !== "complete" && facts?.end, facts?.trusted === false && "picture not trusted"].filter(Boolean).join(", ");
  write($("state"), state === "done" && remarks ? `done (${remarks})` : state);
  $("state").dataset.state = state === "done" && remarks ? "doubtful" : state;
}

const percent = (v) => `${Math.round(100 * v)} %`;
const FIGURES = { // what stands beside the verdict; the rest is in the list of all figures
  resolution_m: ["resolution", (v) => length(v, 2)],
  covered_fraction: ["covered", percent],
  overlap: ["overlap", percent],
  photons_per_frame: ["photons per frame", count],
  position_drift_px: ["drift", (v) => `${small(v)} px`],
};
const UNITS = { per_s: "/s", px: "px", s: "s", hz: "Hz", rad: "rad", ns: "ns" }; // longer endings first

/** A figure by the unit at the end of its name. */
function anyFigure([name, value]) {
  const words = (text) => text.replaceAll("_", " ");
  if (name.endsWith("_m2")) return [words(name.slice(0, -3)), `${small(value * 1e12)} µm²`];
  if (name.endsWith("_m")) return [words(name.slice(0, -2)), length(value)];
  if (name.endsWith("_fraction")) return [words(name.slice(0, -9)), percent(value)];
  const unit = Object.keys(UNITS).find((end) => name.endsWith(`_${end}`));
  const number = Math.abs(value) >= 1e4 ? count(value) : small(value);
  return unit ? [words(name.slice(0, -unit.length - 1)), `${number} ${UNITS[unit]}`] : [words(name), number];
}

const WAITING = { receiving: "Waiting for the first picture.", searching: "Looking for a probe in the data.", paused: "Paused; frames are still received and written." };

export function showVerdict(facts, streams) {
  const words = facts?.verdict ?? (facts ? WAITING[facts.state] ?? trusted(facts) : "Waiting for a scan.");
  write($("verdict"), words);
  const figures = Object.entries(facts?.figures ?? {}).filter(([, value]) => value !== null);
  const known = Object.fromEntries(figures);
  const shown = Object.entries(FIGURES).filter(([name]) => name in known);
  const texts = shown.map(([name, [label, tell]]) => [label, tell(known[name])]);
  const all = figures.map(anyFigure);
  $("more").hidden = all.length === 0;
  renew($("all"), JSON.stringify(all), () => all.flatMap(([name, value]) => [term("dt", name), term("dd", value)]));
  const findings = [...[...(facts?.remarks ?? []), ...streams].map((text) => ["stream", text]), ...Object.entries(facts?.findings ?? {})];
  renew($("figures"), JSON.stringify(texts), () => texts.map(([name, value]) => item("", `${name} `, value)));
  renew($("findings"), JSON.stringify(findings), () => findings.map(([code, text]) => item(`${code.replaceAll("_", " ")}: `, text, "")));
  const problem = [facts?.problem, facts?.write_problem].filter((text, i, all) => text && all.indexOf(text) === i).join("; ");
  write($("problem"), problem);
  $("problem").hidden = !problem;
}

function trusted(facts) {
  const probe = facts.probe ? `Probe ${facts.probe}.` : "";
  return facts.trust && facts.trust !== "confident" ? `${probe} Trust: ${facts.trust}.` : probe || "The reconstruction is running.";
}

const term = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });

function item(first, text, last) {
  const line = document.createElement("li");
  const bold = (words) => Object.assign(document.createElement("b"), { textContent: words });
  line.append(...(first ? [bold(first)] : []), text, ...(last ? [bold(last)] : []));
  return line;
}

function renew(list, key, make) {
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...make());
}

/** Why what is shown is old, in words; empty if it is not. */
export function staleness(report, quietS, connected, why, retry) {
  const finished = report?.facts?.state === "done";
  if (!connected) {
    if (why) return why;
    return finished ? `The page has lost its server; the scan was finished. ${retry}` : `No connection for ${seconds(quietS)}: what is shown is old. ${retry}`;
  }
  if (quietS > QUIET_S) return `No news for ${seconds(quietS)}: what is shown is old.`;
  const heard = Object.values(report?.silence_s ?? {});
  const silence = heard.length ? Math.min(...heard) + quietS : 0;
  if ([...ACTIVE, "paused"].includes(report?.facts?.state) && silence > QUIET_S) return `No news from the services for ${seconds(silence)}: what is shown is old.`;
  return "";
}

export function showScans(report, chosen) {
  const list = $("scans");
  const scans = report.scans.slice().reverse();
  renew(list, JSON.stringify(scans), () => [
    new Option(scans.length ? `newest (${scans[0].scan})` : "newest", ""),
    ...scans.map(({ key, scan, state }) => new Option(`${scan} · ${state ?? "–"}`, key)),
  ]);
  if (list.value !== (chosen ?? "")) list.value = chosen ?? "";
}
