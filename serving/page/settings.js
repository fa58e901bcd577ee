// The settings: the key for this tab, and of the conversation the system message and the sampling.

import { key } from "./api.js";
import { byId, el } from "./dom.js";
import { exportJson, exportMarkdown } from "./export.js";
import { number, t } from "./texts.js";

// Name, limits as the engine has them, step, and what an unset field means where the checkpoint does not say.
const FIELDS = [
  ["temperature", { min: 0, max: 2, step: "any" }, () => number(1)],
  ["top_p", { min: 0.01, max: 1, step: "any" }, () => number(1)],
  ["top_k", { min: 0, step: 1 }, () => t("off")],
  ["repetition_penalty", { min: 0.1, max: 2, step: "any" }, () => number(1)],
  ["max_tokens", { min: 1, step: 1 }, () => number(1024)],
  ["seed", { min: 0, step: 1 }, () => t("random")],
];

/** Make the dialog work. `changed(what)` is called with "key" or "conversation". */
export function setUpSettings(chat, changed) {
  byId("sampling").append(...FIELDS.map(([name, limits]) =>
    el("label", {}, el("span", {}, t(name)), el("input", { type: "number", id: `sampling-${name}`, inputmode: "decimal", ...limits }))));
  byId("settings-open").addEventListener("click", () => openSettings(chat));
  byId("key").addEventListener("change", (event) => {
    key.set(event.target.value.trim());
    changed("key");
  });
  byId("system").addEventListener("change", (event) => {
    chat.conversation.system = event.target.value.trim();
    changed("conversation");
  });
  for (const [name] of FIELDS) field(name).addEventListener("change", ({ target }) => {
    if (target.value === "" || !target.checkValidity()) delete chat.conversation.sampling[name];
    else chat.conversation.sampling[name] = Number(target.value);
    target.reportValidity();
    changed("conversation");
  });
  byId("export-json").addEventListener("click", () => exportJson(chat.conversation, chat.info.model));
  byId("export-markdown").addEventListener("click", () => exportMarkdown(chat.conversation));
}

const field = (name) => byId(`sampling-${name}`);

/** Show what holds for this conversation. */
export function openSettings(chat) {
  byId("key").value = key.get();
  byId("system").value = chat.conversation.system;
  for (const [name, , unset] of FIELDS) {
    const own = chat.info.sampling?.[name];
    field(name).value = chat.conversation.sampling[name] ?? "";
    field(name).placeholder = own === undefined ? unset() : number(own, decimals(own));
  }
  const empty = !chat.conversation.messages.length;
  byId("export-json").disabled = byId("export-markdown").disabled = empty;
  byId("settings").showModal();
}

const decimals = (value) => Math.min(3, (String(value).split(".")[1] ?? "").length);
