// Conversations, each under a key of its own in this browser's local storage: two tabs do not overwrite each other's.
//
// {id, title, updated, system, sampling: {name: number}, messages: [{role, content, stats, note, error}]}

const PREFIX = "xuanyuan.conversation.";

/** A conversation that nobody has said anything in. It is not stored before somebody does. */
export function fresh(like = null) {
  const id = Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
  return { id, title: "", updated: Date.now(), system: like?.system ?? "", sampling: { ...like?.sampling }, messages: [] };
}

/** All that are stored, the newest first. What cannot be read is passed over. */
export function list() {
  const found = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX)).map(read);
  return found.filter(Boolean).sort((a, b) => b.updated - a.updated);
}

/** Store one. False if the browser has no room for it. */
export function save(conversation) {
  try {
    localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
    return true;
  } catch {
    return false;
  }
}

export const remove = (conversation) => localStorage.removeItem(PREFIX + conversation.id);

function read(name) {
  try {
    const found = JSON.parse(localStorage.getItem(name));
    return isConversation(found) ? found : null;
  } catch {
    return null;
  }
}

/** Other versions of this page may have written other things. */
function isConversation(found) {
  const texts = (object, ...names) => names.every((name) => typeof object[name] === "string");
  const isMessage = (message) => message && texts(message, "role", "content");
  return Boolean(found && texts(found, "id", "title", "system") && found.sampling && Array.isArray(found.messages) && found.messages.every(isMessage));
}

/** Whether a storage event, from another tab, is about conversations. */
export const concerns = (event) => event.key === null || event.key.startsWith(PREFIX);
