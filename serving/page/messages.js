// Draws the conversation.

import { button, byId, el } from "./dom.js";
import { Drawing, copied } from "./markdown.js";
import { number, t } from "./texts.js";

const NEAR = 90; // pixels from the end: who is that near follows the answer

export class Messages {
  constructor(chat) {
    this.chat = chat;
    this.list = byId("messages");
    this.scroller = byId("scroll");
    this.growing = null;
    this.frame = 0;
  }

  /** Draw all of them. */
  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { conversation, busy } = this.chat;
    const follow = this.atEnd();
    const focused = this.list.contains(document.activeElement);
    this.growing = null;
    this.list.replaceChildren(...conversation.messages.map((message, index) =>
      message.role === "user" ? this.question(message) : this.answer(message, index === conversation.messages.length - 1)));
    this.list.setAttribute("aria-busy", String(busy));
    byId("start").hidden = conversation.messages.length > 0;
    // The button that was pressed is gone: the keyboard goes on from here.
    if (focused) this.scroller.focus({ preventScroll: true });
    if (follow || busy) this.toEnd();
  }

  /** The last answer has more text: show it with the next frame. */
  grow() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.growing) return;
      const follow = this.atEnd();
      this.growing.update(this.chat.conversation.messages.at(-1).content);
      if (follow) this.toEnd();
    });
  }

  question(message) {
    const body = el("div", { class: "body" }, message.content);
    const edit = button(t("edit"), () => this.edit(message, item), { class: "quiet", disabled: this.chat.busy });
    const copy = button(t("copy"), (event) => copied(event.target, message.content), { class: "quiet" });
    const item = el("li", { class: "user" }, el("h2", { class: "who" }, t("you")), body, el("div", { class: "foot" }, copy, edit));
    return item;
  }

  answer(message, last) {
    const waiting = last && this.chat.busy;
    const body = el("div", { class: "body" });
    const drawing = new Drawing(body);
    drawing.update(message.content);
    if (waiting) {
      this.growing = drawing;
      body.dataset.waiting = t("thinking");
    }
    const copy = button(t("copy"), (event) => copied(event.target, message.content), { class: "quiet" });
    const retry = last ? button(t("retry"), () => this.chat.retry(), { class: "quiet" }) : null;
    const foot = waiting ? [] : [message.content ? copy : null, retry, facts(message)];
    return el("li", { class: "assistant" },
      el("h2", { class: "who" }, t("model")), body,
      message.error ? el("p", { class: "error" }, message.error) : null,
      el("div", { class: "foot" }, ...foot));
  }

  /** Turn a question into a field in which it can be changed. */
  edit(message, item) {
    const field = el("textarea", { "aria-label": t("editing"), rows: Math.min(10, message.content.split("\n").length + 1) });
    field.value = message.content;
    const send = () => field.value.trim() && this.chat.resend(message, field.value);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        this.draw();
      }
    });
    item.replaceChildren(el("h2", { class: "who" }, t("editing")), field,
      el("div", { class: "foot" }, button(t("resend"), send, { class: "primary" }), button(t("cancel"), () => this.draw())));
    item.classList.add("editing");
    field.focus();
  }

  atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

/** The small print under an answer: how fast it came, and whether it is whole. */
function facts({ stats, note }) {
  const parts = note ? [t(note)] : [];
  if (stats) {
    const values = { first: number(stats.first, 2), tokens: number(stats.tokens), speed: number(stats.speed ?? 0, 1) };
    parts.unshift(t(stats.speed === null ? "statsShort" : "stats", values));
  }
  return parts.length ? el("span", { class: "facts" }, parts.join(" · ")) : null;
}
