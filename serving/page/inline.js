// Markdown, second half: the text inside a block as nodes. A model's text becomes text nodes and nothing else.

import { el } from "./dom.js";

const DEEPEST = 8;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const ADDRESS = /https?:\/\/[^\s<>"'`，。；！？（）《》「」]+/y;
const PROTOCOLS = ["http:", "https:", "mailto:"];

/** The nodes of a text. */
export function inline(text, depth = 0) {
  const nodes = [];
  let plain = "";
  for (let at = 0; at < text.length; ) {
    const found = depth < DEEPEST ? READERS[text[at]]?.(text, at, depth) : null;
    if (!found) {
      plain += text[at];
      at += 1;
    } else if (typeof found.node === "string") {
      plain += found.node;
      at = found.end;
    } else {
      if (plain) nodes.push(plain);
      plain = "";
      nodes.push(found.node);
      at = found.end;
    }
  }
  if (plain) nodes.push(plain);
  return nodes;
}

const READERS = { "\\": escaped, "`": code, "*": emphasis, _: emphasis, "~": struck, "[": link, "!": image, h: address, "\n": lineEnd };

function escaped(text, at) {
  return ESCAPABLE.test(text[at + 1] ?? "") ? { node: text[at + 1], end: at + 2 } : null;
}

function lineEnd(text, at) {
  return { node: el("br"), end: at + 1 };
}

function code(text, at) {
  const ticks = /`+/y;
  ticks.lastIndex = at;
  const run = ticks.exec(text)[0];
  let end = text.indexOf(run, at + run.length);
  while (end >= 0 && text[end + run.length] === "`") {
    while (text[end] === "`") end += 1;
    end = text.indexOf(run, end);
  }
  if (end < 0) return { node: run, end: at + run.length };
  return { node: el("code", {}, text.slice(at + run.length, end).trim()), end: end + run.length };
}

function emphasis(text, at, depth) {
  const mark = text[at];
  const run = text[at + 1] === mark ? mark + mark : mark;
  if (mark === "_" && /[\p{L}\p{N}]/u.test(text[at - 1] ?? "")) return null;
  return spanned(text, at, run, run.length === 2 ? "strong" : "em", depth);
}

function struck(text, at, depth) {
  return text[at + 1] === "~" ? spanned(text, at, "~~", "del", depth) : null;
}

/** What stands between two of the same marks; the inner side of a mark is no space. */
function spanned(text, at, mark, tag, depth) {
  const start = at + mark.length;
  const end = text.indexOf(mark, start + 1);
  if (end < 0 || /\s/.test(text[start]) || /\s/.test(text[end - 1])) return { node: mark, end: start };
  return { node: el(tag, {}, ...inline(text.slice(start, end), depth + 1)), end: end + mark.length };
}

/** [text](address): a link where the address is one for the web or for mail, else the text as it stands. */
function link(text, at, depth) {
  const middle = text.indexOf("](", at);
  const end = text.indexOf(")", middle);
  if (middle < 0 || end < 0) return null;
  const label = text.slice(at + 1, middle);
  const target = safe(text.slice(middle + 2, end).trim().split(/\s/)[0]);
  return target && { node: anchor(target, inline(label.replaceAll("[", "("), depth + 1)), end: end + 1 };
}

/** Nothing is loaded from anywhere: a picture is a link to it. */
function image(text, at, depth) {
  return text[at + 1] === "[" ? link(text, at + 1, depth) : null;
}

function address(text, at) {
  ADDRESS.lastIndex = at;
  const match = /[A-Za-z0-9]/.test(text[at - 1] ?? "") ? null : ADDRESS.exec(text);
  const found = match?.[0].replace(/[.,;:!?)*_~\]]{1,8}$/, "");
  const target = found && safe(found);
  return target ? { node: anchor(target, [found]), end: at + found.length } : null;
}

/** The whole address if it may be a link: absolute, and of a protocol that runs nothing. */
function safe(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url && PROTOCOLS.includes(url.protocol) ? url.href : null;
}

const anchor = (href, children) => el("a", { href, title: href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
