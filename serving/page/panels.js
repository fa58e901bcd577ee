// The panels at the side: one at a time, each with the button that opens and closes it.

import { byId } from "./dom.js";

const NAMES = { "prompt-panel": "prompt-open", "status-panel": "strip" };

/** Make the buttons work. `opened` is called with the panel's id. */
export function setUpPanels(opened) {
  for (const [panel, opener] of Object.entries(NAMES)) {
    byId(opener).addEventListener("click", () => toggle(panel, byId(panel).hidden, opened));
    byId(panel).querySelector("button").addEventListener("click", () => {
      toggle(panel, false);
      byId(opener).focus();
    });
  }
}

function toggle(panel, on, opened) {
  for (const [name, opener] of Object.entries(NAMES)) {
    byId(name).hidden = !(on && name === panel);
    byId(opener).setAttribute("aria-expanded", String(on && name === panel));
  }
  if (on) {
    opened(panel);
    byId(panel).querySelector("button").focus();
  }
}

/** Close whichever is open. False if none was. */
export function closePanels() {
  const open = Object.keys(NAMES).find((name) => !byId(name).hidden);
  if (!open) return false;
  toggle(open, false);
  byId(NAMES[open]).focus();
  return true;
}
