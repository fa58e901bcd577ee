// Where everything meets: the page's elements, the conversation, the server's state.

import { Chat } from "./chat.js";
import { button, byId, el } from "./dom.js";
import { Messages } from "./messages.js";
import { closePanels, setUpPanels } from "./panels.js";
import { drawPrompt } from "./prompt.js";
import { samples } from "./samples.js";
import { setUpSettings } from "./settings.js";
import { drawSidebar, toggleSidebar } from "./sidebar.js";
import { drawPanel, watchStatus } from "./status.js";
import { concerns, fresh, list, save } from "./store.js";
import { language, t, translate } from "./texts.js";

translate(document);
const question = byId("question");
const chat = new Chat(show);
const messages = new Messages(chat);
let wasBusy = false;

/** Something changed in the conversation. */
function show(what) {
  if (what === "growth") return messages.grow();
  messages.draw();
  byId("send").hidden = chat.busy;
  byId("stop").hidden = !chat.busy;
  drawSidebar(chat.conversation, open);
  document.title = [chat.conversation.title, chat.info.model ?? "XuanYuan"].filter(Boolean).join(" · ");
  showPrompt();
  if (wasBusy !== chat.busy) {
    wasBusy = chat.busy;
    lookAgain();
  }
}

function open(conversation) {
  chat.open(conversation ?? fresh(chat.conversation));
  toggleSidebar(false);
  question.focus();
}

function showPrompt() {
  if (!byId("prompt-panel").hidden && !chat.busy) drawPrompt(chat.conversation, question.value, chat.info);
}

function send() {
  if (chat.busy || !question.value.trim()) return;
  const text = question.value;
  question.value = "";
  resize();
  chat.send(text);
}

/** The field is as high as its text, within bounds. */
function resize() {
  question.rows = Math.min(8, question.value.split("\n").length);
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
question.addEventListener("keydown", (event) => {
  // While characters are being composed, Enter chooses among them.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
let typing = 0;
question.addEventListener("input", () => {
  resize();
  clearTimeout(typing);
  typing = setTimeout(showPrompt, 400);
});
byId("stop").addEventListener("click", () => {
  chat.stop();
  question.focus();
});
byId("new").addEventListener("click", () => open(null));
byId("sidebar-open").addEventListener("click", () => toggleSidebar(true));
byId("sidebar-close").addEventListener("click", () => {
  toggleSidebar(false);
  byId("sidebar-open").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || byId("settings").open) return;
  if (document.body.classList.contains("with-sidebar")) byId("sidebar-close").click();
  else if (!closePanels()) chat.stop();
});
addEventListener("storage", (event) => concerns(event) && drawSidebar(chat.conversation, open));
addEventListener("pagehide", () => chat.busy && save(chat.conversation));

byId("samples").append(...samples[language].map((text) => el("li", {}, button(text, () => chat.send(text)))));
setUpPanels((panel) => (panel === "prompt-panel" ? showPrompt() : drawPanel(chat.info)));
setUpSettings(chat, (what) => {
  if (what === "key") lookAgain();
  else if (chat.conversation.messages.length) save(chat.conversation);
  showPrompt();
});

byId("model").textContent = t("connecting");
const told = (info) => {
  chat.info = info;
  byId("start-note").textContent = t(info.chat ? "startNote" : "startCompletion");
};
const lookAgain = watchStatus(told, () => chat.busy);
chat.open(list()[0] ?? fresh());
question.focus();
