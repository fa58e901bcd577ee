// What a conversation becomes when it is sent. Pure.

const USUAL_ANSWER = 1024; // tokens, where neither the user nor the checkpoint says

/** The body of a request for the next answer; of a checkpoint that only completes text, for the text's end. */
export function requestFor(conversation, info) {
  const model = info.model ? { model: info.model } : {};
  return { ...model, ...promptOf(conversation, info), ...samplingOf(conversation, info) };
}

/** The part of it that decides what the model sees. */
export function promptOf(conversation, info) {
  const turns = answered(conversation.messages).map(({ role, content }) => ({ role, content }));
  if (info.chat === false) return { prompt: turns.map(({ content }) => content).join("") };
  return { messages: conversation.system ? [{ role: "system", content: conversation.system }, ...turns] : turns };
}

/** The messages without questions that got no answer, but for the last: templates want questions and answers in turn. */
function answered(messages) {
  const said = messages.filter(({ role, content }) => role === "user" || content.trim());
  return said.filter(({ role }, index) => role !== "user" || said[index + 1]?.role !== "user");
}

function samplingOf({ sampling }, info) {
  const context = info.context ?? Infinity;
  const most = sampling.max_tokens ?? info.sampling?.max_tokens ?? Math.min(USUAL_ANSWER, Math.floor(context / 2));
  return { ...sampling, max_tokens: most };
}
