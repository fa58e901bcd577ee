// How a token is shown. Pure. Vocabularies write spaces and bytes in ways of their own:
// SentencePiece "▁" and "<0x0A>"; byte-level BPE one printable character for each byte, as GPT-2's vocabulary began it.

const DECODER = new TextDecoder("utf-8", { fatal: true });
const BYTE = /^<0x([0-9A-F]{2})>$/;

const BYTES = byteTable();

/** The characters of byte-level BPE, each with its byte. */
function byteTable() {
  const table = new Map();
  const printable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  for (let byte = 0, extra = 256; byte < 256; byte += 1) table.set(String.fromCharCode(printable(byte) ? byte : extra++), byte);
  return table;
}

/** Which of the two a prompt's vocabulary is: byte-level writes every space as "Ġ", SentencePiece as "▁". */
export function isByteLevel(tokens) {
  return tokens.some((token) => /[ĠĊ]/.test(token)) && !tokens.some((token) => token.includes("▁"));
}

/** A token as people read it: spaces visible, bytes that are no whole character as such. */
export function shown(token, byteLevel) {
  if (byteLevel) return decode([...token].map((character) => BYTES.get(character) ?? 63));
  const byte = BYTE.exec(token);
  return byte ? decode([parseInt(byte[1], 16)]) : visible(token.replaceAll("▁", " "));
}

function decode(bytes) {
  try {
    return visible(DECODER.decode(Uint8Array.from(bytes)));
  } catch {
    return `⟨${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}⟩`;
  }
}

const visible = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "␊").replaceAll("\t", "␉").replaceAll("\r", "␍");
