// What is asked of the server, and what can come back. The key lives in this tab's session storage and nowhere else.

import { events } from "./sse.js";

const KEY = "xuanyuan.key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** Why a request failed. `status` is 0 where there was no answer; `wait` is the server's Retry-After in seconds. */
export class Failure extends Error {
  constructor(message, { status = 0, code = "", wait = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, wait });
  }
}

/** The model and the load: see the server's documentation of /status. */
export const status = async () => (await ask("GET", "/status")).json();

/** The prompt as tokens: {count, max_model_len, tokens, token_strs}. */
export async function tokenize(request) {
  return (await ask("POST", "/tokenize", { ...request, return_token_strs: true })).json();
}

/** One answer as it comes: {text}, {finish}, {tokens} in any mixture. Ends early, without an error, when aborted. */
export async function* answer(request, signal) {
  const path = request.messages ? "/v1/chat/completions" : "/v1/completions";
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await ask("POST", path, body, signal);
  let ended = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") ended = true;
      else yield part(JSON.parse(data));
    }
  } catch (error) {
    if (signal.aborted) return;
    throw error instanceof Failure ? error : new Failure(String(error.message ?? error));
  }
  if (!ended && !signal.aborted) throw new Failure("", { code: "cut_off" });
}

function part(chunk) {
  if (chunk.error) throw new Failure(chunk.error.message, { status: 500, code: String(chunk.error.code ?? "") });
  const choice = chunk.choices?.[0];
  return {
    text: choice?.delta?.content ?? choice?.text ?? "",
    finish: choice?.finish_reason ?? null,
    tokens: chunk.usage?.completion_tokens ?? null,
  };
}

async function ask(method, path, body, signal) {
  const headers = body ? { "content-type": "application/json" } : {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let response;
  try {
    const options = { method, headers, signal, credentials: "omit", cache: "no-store", redirect: "error" };
    response = await fetch(path, { ...options, body: body && JSON.stringify(body) });
  } catch (error) {
    if (signal?.aborted) throw new Failure("", { code: "aborted" });
    throw new Failure("", { code: "network" });
  }
  if (response.ok) return response;
  throw await failure(response);
}

async function failure(response) {
  const document = await response.json().catch(() => null);
  const error = document?.error ?? {};
  const message = error.message ?? document?.message ?? `HTTP ${response.status}`;
  const wait = Number(response.headers.get("retry-after")) || 0;
  return new Failure(String(message), { status: response.status, code: String(error.code ?? ""), wait });
}
