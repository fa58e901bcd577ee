// The line under the header: what stands in the way at the moment. The most serious is shown.

import { byId } from "./dom.js";
import { t } from "./texts.js";

const current = new Map();
const ORDER = ["lost", "draining", "needsKey", "badKey", "wait", "busy", "storageFull"];
let timer = 0;

/** Show or clear one notice. */
export function notice(name, on = true) {
  if (on) current.set(name, Infinity);
  else current.delete(name);
  show();
}

/** "Try in N s", counting down. */
export function countDown(name, seconds) {
  current.set(name, Date.now() + Math.max(1, seconds) * 1000);
  clearInterval(timer);
  timer = setInterval(show, 250);
  show();
}

/** What a failed request says about the server. */
export function noticeFailure(failure) {
  if (failure.code === "network") notice("lost");
  else if (failure.code === "draining") notice("draining");
  else if (failure.status === 401) notice(failure.code === "missing_api_key" ? "needsKey" : "badKey");
  else if (failure.status === 429) countDown("wait", failure.wait);
  else if (failure.status === 503) countDown("busy", failure.wait);
}

function show() {
  for (const [name, until] of current) if (until <= Date.now()) current.delete(name);
  const name = ORDER.find((each) => current.has(each));
  const left = name ? Math.ceil((current.get(name) - Date.now()) / 1000) : 0;
  const text = name ? t(name, { n: left }) : "";
  const line = byId("notice");
  if (line.textContent !== text) line.textContent = text;
  line.hidden = !name;
  line.className = name === "lost" || name === "badKey" ? "bad" : "";
  if (![...current.values()].some(Number.isFinite)) clearInterval(timer);
}
