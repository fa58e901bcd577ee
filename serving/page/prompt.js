// "What the model sees": the prompt that the conversation becomes, token by token.

import { tokenize } from "./api.js";
import { byId, el } from "./dom.js";
import { promptOf } from "./request.js";
import { number, t } from "./texts.js";
import { isByteLevel, shown } from "./tokens.js";

let asked = 0;

/** Draw the prompt of the conversation with the draft as its next question; without a draft, the last one that was sent. */
export async function drawPrompt(conversation, draft, info) {
  const turn = (asked += 1);
  const messages = [...conversation.messages];
  if (draft.trim()) messages.push({ role: "user", content: draft.trim() });
  else while (messages.length && messages.at(-1).role === "assistant") messages.pop();
  if (!messages.length) return show(t("promptEmpty"), []);
  try {
    const answer = await tokenize({ ...(info.model && { model: info.model }), ...promptOf({ ...conversation, messages }, info) });
    if (turn === asked) draw(answer, new Set(info.control_tokens));
  } catch (failure) {
    if (turn === asked) show(failure.message || t("networkError"), []);
  }
}

function draw({ count, max_model_len, tokens, token_strs }, control) {
  const byteLevel = isByteLevel(token_strs);
  let controls = 0;
  const nodes = token_strs.flatMap((token, place) => {
    const isControl = control.has(token);
    controls += isControl;
    const text = isControl ? token : shown(token, byteLevel);
    const node = el("span", { class: isControl ? "control" : "token", title: String(tokens[place]) }, text);
    // The chips flow as one text; a line of the prompt is a line here.
    return text.endsWith("␊") ? [node, el("br")] : [node];
  });
  show(t("promptCount", { count: number(count), control: number(controls), context: number(max_model_len) }), nodes);
}

function show(text, nodes) {
  byId("prompt-count").textContent = text;
  byId("tokens").replaceChildren(...nodes);
}
