// Draws an answer. While it grows, only the blocks that changed are drawn again.

import { blocks } from "./blocks.js";
import { button, copy, el } from "./dom.js";
import { inline } from "./inline.js";
import { t } from "./texts.js";

const DEEPEST = 6;

export class Drawing {
  constructor(root) {
    this.root = root;
    this.drawn = [];
  }

  /** Show this text. */
  update(text) {
    const wanted = blocks(text);
    let same = 0;
    while (same < wanted.length && this.drawn[same]?.source === wanted[same].source) same += 1;
    for (const { node } of this.drawn.splice(same)) node.remove();
    for (const block of wanted.slice(same)) {
      const node = draw(block, 0);
      this.root.append(node);
      this.drawn.push({ source: block.source, node });
    }
  }
}

function draw(block, depth) {
  return DRAWERS[block.type](block, depth);
}

/** What stands inside a quotation or a list item: blocks again, down to a depth that no honest text has. */
function inner(text, depth) {
  if (depth >= DEEPEST) return [text];
  const found = blocks(text);
  return found.length === 1 && found[0].type === "paragraph" ? inline(found[0].text) : found.map((block) => draw(block, depth + 1));
}

const DRAWERS = {
  paragraph: ({ text }) => el("p", {}, ...inline(text)),
  // An answer's headings rank below the page's own.
  heading: ({ level, text }) => el(`h${Math.min(level + 2, 6)}`, {}, ...inline(text)),
  rule: () => el("hr"),
  quote: ({ text }, depth) => el("blockquote", {}, ...inner(text, depth)),
  list: ({ ordered, start, items }, depth) =>
    el(ordered ? "ol" : "ul", ordered && start !== 1 ? { start } : {}, ...items.map((item) => el("li", {}, ...inner(item, depth)))),
  code: ({ language, text }) =>
    el("figure", { class: "code" },
      el("figcaption", {}, language || "text", button(t("copyCode"), (event) => copied(event.target, text), { class: "quiet" })),
      el("pre", { tabindex: "0", role: "group", "aria-label": language || "text" }, el("code", {}, text))),
  table: ({ align, rows: [head, ...rows] }) => {
    const row = (tag, cells) => el("tr", {}, ...cells.map((cell, column) => el(tag, { class: align[column] || null }, ...inline(cell))));
    return el("div", { class: "table", tabindex: "0", role: "group" },
      el("table", {}, el("thead", {}, row("th", head)), el("tbody", {}, ...rows.map((cells) => row("td", cells)))));
  },
};

/** Copy, and say so on the button for a moment. */
export async function copied(node, text) {
  const before = node.textContent;
  await copy(text);
  node.textContent = t("copied");
  setTimeout(() => (node.textContent = before), 1500);
}
