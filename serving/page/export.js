// A conversation as a file.

import { el } from "./dom.js";
import { t } from "./texts.js";

export function exportJson(conversation, model) {
  const { title, system, sampling, messages } = conversation;
  const turns = messages.map(({ role, content, stats }) => ({ role, content, ...(stats && { stats }) }));
  const text = JSON.stringify({ title, model, exported: new Date().toISOString(), system, sampling, messages: turns }, null, 2);
  download(`${name(conversation)}.json`, "application/json", text);
}

export function exportMarkdown(conversation) {
  const system = conversation.system ? [`> ${conversation.system.replaceAll("\n", "\n> ")}`] : [];
  const turns = conversation.messages.map(({ role, content }) => `## ${role === "user" ? t("you") : t("model")}\n\n${content}`);
  download(`${name(conversation)}.md`, "text/markdown", [`# ${conversation.title}`, ...system, ...turns].join("\n\n") + "\n");
}

/** A file name out of the title: letters and digits of any script. */
function name(conversation) {
  return conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "conversation";
}

function download(file, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: url, download: file });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
