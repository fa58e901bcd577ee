// One conversation at a time: questions, the answer that is coming, and what may be done to both.

import { Failure, answer } from "./api.js";
import { announce } from "./dom.js";
import { Meter } from "./meter.js";
import { notice, noticeFailure } from "./notices.js";
import { requestFor } from "./request.js";
import { fresh, save } from "./store.js";
import { t } from "./texts.js";

export class Chat {
  /** `show`: called with what changed: "messages" (draw them all) or "growth" (the last one has more text). */
  constructor(show) {
    this.show = show;
    this.info = {};
    this.conversation = fresh();
    this.running = null;
  }

  get busy() {
    return this.running !== null;
  }

  open(conversation) {
    this.stop();
    this.conversation = conversation;
    this.show("messages");
  }

  send(question) {
    const text = question.trim();
    if (!text || this.busy) return;
    this.conversation.title ||= text.split("\n")[0].slice(0, 60);
    this.conversation.messages.push({ role: "user", content: text });
    this.answer();
  }

  /** Put another question in the place of this one; what followed it is gone. */
  resend(message, question) {
    if (this.busy) return;
    const messages = this.conversation.messages;
    messages.splice(messages.indexOf(message));
    this.send(question);
  }

  /** Ask for the last answer once more. */
  retry() {
    const messages = this.conversation.messages;
    if (this.busy || !messages.length) return;
    if (messages.at(-1).role === "assistant") messages.pop();
    this.answer();
  }

  stop() {
    this.running?.abort();
    this.running = null;
  }

  async answer() {
    const { conversation } = this;
    const running = (this.running = new AbortController());
    const request = requestFor(conversation, this.info);
    const message = { role: "assistant", content: "" };
    conversation.messages.push(message);
    this.keep(conversation);
    this.show("messages");
    const meter = new Meter(performance.now());
    try {
      for await (const part of answer(request, running.signal)) {
        meter.add(part, performance.now());
        message.content += part.text;
        if (part.finish === "length") message.note = "lengthLimit";
        if (part.text && this.conversation === conversation) this.show("growth");
      }
    } catch (failure) {
      if (!running.signal.aborted) this.fail(message, failure);
    }
    if (running.signal.aborted) message.note = "stopped";
    message.stats = meter.stats;
    if (this.running === running) this.running = null;
    this.keep(conversation);
    if (this.conversation === conversation) this.show("messages");
    announce(message.error ?? t(message.note === "stopped" ? "stopped" : "answered"));
  }

  fail(message, failure) {
    if (!(failure instanceof Failure)) throw failure;
    noticeFailure(failure);
    const own = { network: "networkError", cut_off: "cutOff" }[failure.code];
    message.error = own ? t(own) : failure.message;
  }

  keep(conversation) {
    conversation.updated = Date.now();
    notice("storageFull", !save(conversation));
  }
}
