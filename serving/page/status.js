// The strip in the header and the panel behind it: what is served and how busy it is, asked for every two seconds, and
// every second while an answer comes: a server that drains is gone soon after its last one.

import { status } from "./api.js";
import { byId, el } from "./dom.js";
import { notice, noticeFailure } from "./notices.js";
import { sparkline } from "./sparkline.js";
import { number, t } from "./texts.js";

const PAUSE = 2000; // milliseconds
const BUSY_PAUSE = 1000;
const LONGEST_PAUSE = 10_000;
const SLOTS = 90; // three minutes

const percent = (share) => `${number(share * 100, share && share < 0.1 ? 1 : 0)} %`;
const seconds = (value) => (value === null ? "–" : `${number(value, value < 10 ? 2 : 1)} s`);
const FIGURES = [
  ["running", (load) => load.running, number],
  ["waiting", (load) => load.waiting, number],
  ["kv", (load) => load.kv_cache_usage, percent],
  ["speed", (load) => load.tokens_per_second, (value) => number(value, 1)],
  ["p50", (load) => load.first_token_seconds.p50, seconds],
  ["p95", (load) => load.first_token_seconds.p95, seconds],
];

let history = [];
let timer = 0;
let failures = 0;
let asking = false;
let askAgain = false;

/** Ask for ever. `told` gets each answer; `busy` says whether an answer comes. Returns what asks at once. */
export function watchStatus(told, busy) {
  const pause = () => (failures ? Math.min(LONGEST_PAUSE, 1000 * 2 ** failures) : busy() ? BUSY_PAUSE : PAUSE);
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(() => (document.hidden ? again() : look()), pause());
  };
  const look = async () => {
    askAgain = true;
    if (asking) return;
    asking = true;
    while (askAgain) {
      askAgain = false;
      await once(told);
    }
    asking = false;
    again();
  };
  const now = () => {
    failures = 0; // somebody waits for it
    look();
  };
  document.addEventListener("visibilitychange", () => document.hidden || now());
  look();
  return now;
}

async function once(told) {
  try {
    const info = await status();
    failures = 0;
    for (const name of ["lost", "needsKey", "badKey"]) notice(name, false);
    notice("draining", info.draining);
    dot(info.draining ? "warn" : "good");
    told(info);
    draw(info);
  } catch (failure) {
    failures += 1;
    // A server that answers, if only with a refusal, is not lost.
    if (failure.status) notice("lost", false);
    noticeFailure(failure);
    dot(failure.status ? "warn" : "bad");
  }
}

const dot = (state) => (byId("dot").className = `dot ${state}`);

function draw(info) {
  const { load } = info;
  history = load ? [...history, load].slice(-SLOTS) : [];
  byId("model").textContent = info.model ?? t("unknown");
  const facts = [info.precision, info.context && t("tokensUnit", { n: number(info.context) })];
  byId("facts").textContent = facts.filter(Boolean).join(" · ");
  byId("figures").textContent = load ? t("figures", figures(load)) : "";
  if (!byId("status-panel").hidden) drawPanel(info);
}

const figures = (load) => Object.fromEntries(FIGURES.map(([name, value, shown]) => [name, shown(value(load))]));

/** The panel: what is served, the figures with their last minutes, what was refused. */
export function drawPanel(info) {
  if (!info.model) return;
  const rows = [["model", info.model], ["precision", info.precision ?? t("unknown")],
    ["context", info.context ? t("tokensUnit", { n: number(info.context) }) : t("unknown")], ["uptime", duration(info.uptime_seconds)]];
  byId("identity").replaceChildren(...rows.flatMap(([name, value]) => row(t(name), value)));
  byId("charts").replaceChildren(...(info.load ? FIGURES.map(chart) : []));
  const refused = Object.entries(info.load?.rejections ?? {}).filter(([, count]) => count);
  byId("rejections").replaceChildren(...(refused.length ? refused : [[t("none"), 0]]).flatMap(([code, count]) => row(code, number(count))));
  byId("load-note").hidden = Boolean(info.load);
  byId("load-note").textContent = t("loadForbidden");
}

const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];

function chart([name, value, shown]) {
  const values = history.map(value);
  const known = values.filter((each) => each !== null);
  const now = values.at(-1) === null ? "–" : shown(values.at(-1));
  const label = t("chart", { name: t(name), now, most: known.length ? shown(Math.max(...known)) : "–" });
  return el("div", { class: "chart" }, el("span", { class: "name" }, t(name)), el("span", { class: "now" }, now), sparkline(values, SLOTS, label));
}

function duration(total) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const begin = units.findIndex(([, size]) => total >= size);
  const parts = units.slice(begin < 0 ? 3 : begin).slice(0, 2);
  return parts.map(([unit, size], place) => `${Math.floor((place ? total % parts[place - 1][1] : total) / size)} ${unit}`).join(" ");
}
