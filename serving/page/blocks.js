// Markdown, first half: a text as blocks. Pure. Every pattern is anchored and takes time linear in its line.
//
// {type: "paragraph", text} {type: "heading", level, text} {type: "code", language, text} {type: "quote", text} {type: "rule"}
// {type: "list", ordered, start, items: [text]} {type: "table", align: [""|"left"|"center"|"right"], rows: [[text]]}
// Each has its `source` too: a block whose source is the same need not be drawn again.

const FENCE = /^ {0,3}(`{3,}|~{3,}) *([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6}) +(\S.*)$/;
const RULE = /^ {0,3}([-*_])( *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +)(?=\S)/;

/** The blocks of a text. An answer that is still growing may end inside of one. */
export function blocks(text) {
  const lines = text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");
  const found = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, end] = code(lines, at) ?? heading(lines, at) ?? rule(lines, at) ?? quote(lines, at) ??
      list(lines, at) ?? table(lines, at) ?? paragraph(lines, at);
    found.push({ ...block, source: `${block.type}\n${lines.slice(at, end).join("\n")}` });
    at = end;
  }
  return found;
}

function code(lines, start) {
  const fence = FENCE.exec(lines[start]);
  if (!fence || lines[start].includes("`", fence[0].length)) return null;
  const ends = (line) => line.trim().startsWith(fence[1]) && !line.trim().replaceAll(fence[1][0], "");
  let end = start + 1;
  while (end < lines.length && !ends(lines[end])) end += 1;
  const text = lines.slice(start + 1, end).join("\n");
  return [{ type: "code", language: fence[2], text }, Math.min(end + 1, lines.length)];
}

function heading(lines, start) {
  const match = HEADING.exec(lines[start]);
  return match && [{ type: "heading", level: match[1].length, text: match[2].trimEnd().replace(/ #+$/, "") }, start + 1];
}

function rule(lines, start) {
  return RULE.test(lines[start]) ? [{ type: "rule" }, start + 1] : null;
}

function quote(lines, start) {
  let end = start;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const text = lines.slice(start, end).map((line) => line.replace(QUOTE, "")).join("\n");
  return end > start ? [{ type: "quote", text }, end] : null;
}

function list(lines, start) {
  const first = ITEM.exec(lines[start]);
  if (!first) return null;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = start;
  for (let indent = 0; end < lines.length; end += 1) {
    const item = ITEM.exec(lines[end]);
    const inside = items.length && /^ */.exec(lines[end])[0].length >= Math.min(indent, first[1].length + 2);
    if (item && !inside && /\d/.test(item[2]) === ordered && !RULE.test(lines[end])) {
      indent = item[0].length;
      items.push([lines[end].slice(indent)]);
    } else if (inside && lines[end].trim()) {
      items.at(-1).push(lines[end].slice(Math.min(indent, /^ */.exec(lines[end])[0].length)));
    } else if (!lines[end].trim() && continues(lines[end + 1], first, ordered)) {
      items.at(-1).push("");
    } else {
      break;
    }
  }
  return [{ type: "list", ordered, start: parseInt(first[2], 10) || 1, items: items.map((item) => item.join("\n")) }, end];
}

/** Whether a list goes on after a blank line. */
function continues(line = "", first, ordered) {
  const item = ITEM.exec(line);
  return line.startsWith("  ") ? Boolean(line.trim()) : Boolean(item) && /\d/.test(item[2]) === ordered;
}

function table(lines, start) {
  if (!lines[start].includes("|") || start + 1 >= lines.length || !lines[start + 1].includes("-")) return null;
  const marks = cells(lines[start + 1]);
  const head = cells(lines[start]);
  if (marks.length !== head.length || !marks.every((mark) => /^:?-+:?$/.test(mark))) return null;
  let end = start + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const rows = lines.slice(start + 2, end).map((line) => head.map((_, column) => cells(line)[column] ?? ""));
  return [{ type: "table", align: marks.map(alignment), rows: [head, ...rows] }, end];
}

const alignment = (mark) => (mark.endsWith(":") ? (mark.startsWith(":") ? "center" : "right") : mark.startsWith(":") ? "left" : "");

/** The cells of a row. A bar after a backslash is a character. */
function cells(line) {
  const parts = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
  if (parts.length > 1 && !parts.at(-1).trim()) parts.pop();
  return parts.map((part) => part.trim().replaceAll("\\|", "|"));
}

function paragraph(lines, start) {
  const begins = (at) => [code, heading, rule, quote, list, table].some((block) => block(lines, at));
  let end = start + 1;
  while (end < lines.length && lines[end].trim() && !begins(end)) end += 1;
  return [{ type: "paragraph", text: lines.slice(start, end).map((line) => line.trim()).join("\n") }, end];
}
