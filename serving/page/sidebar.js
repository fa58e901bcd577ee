// The list of conversations.

import { button, byId, el } from "./dom.js";
import { list, remove } from "./store.js";
import { t } from "./texts.js";

/** Draw the list. `open` is called with a conversation, or with null for a new one. */
export function drawSidebar(current, open) {
  const items = list().map((conversation) => {
    const title = conversation.title || t("untitled");
    const isCurrent = conversation.id === current.id;
    const choose = button(title, () => open(conversation), { class: "title", title, "aria-current": isCurrent ? "true" : null });
    const drop = () => {
      if (!confirm(t("reallyRemove", { title }))) return;
      remove(conversation);
      if (isCurrent) open(null);
      else drawSidebar(current, open);
    };
    return el("li", {}, choose, button("✕", drop, { class: "quiet remove", "aria-label": t("remove", { title }) }));
  });
  byId("conversations").replaceChildren(...items);
}

/** On a phone the list covers the page, and goes away again. */
export function toggleSidebar(on) {
  document.body.classList.toggle("with-sidebar", on);
  if (on) byId("sidebar-close").focus();
}
