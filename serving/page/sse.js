// Server-sent events out of a byte stream, as https://html.spec.whatwg.org/multipage/server-sent-events.html has them.

/** The data of each event, joined by newlines. Chunks may be split anywhere; an event cut off at the end is dropped. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const whole = (pending + value).split(/\r\n\r\n|\n\n|\r\r/);
      pending = whole.pop();
      for (const event of whole) {
        const data = dataOf(event);
        if (data !== null) yield data;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function dataOf(event) {
  const lines = event.split(/\r\n|\n|\r/).filter((line) => line.startsWith("data:"));
  return lines.length ? lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n") : null;
}
