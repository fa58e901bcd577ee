// How fast an answer came, as its reader saw it. Times are milliseconds of performance.now().

export class Meter {
  constructor(begun) {
    this.begun = begun;
    this.first = this.last = this.tokens = null;
  }

  add(part, now) {
    if (part.text) {
      this.first ??= now;
      this.last = now;
    }
    this.tokens = part.tokens ?? this.tokens;
  }

  /** {first, speed, tokens}: seconds to the first token, tokens/s after it (null: too few to tell). Null: no token came. */
  get stats() {
    if (this.first === null || !this.tokens) return null;
    const seconds = (this.last - this.first) / 1000;
    const speed = this.tokens > 1 && seconds > 0 ? (this.tokens - 1) / seconds : null;
    return { first: (this.first - this.begun) / 1000, speed, tokens: this.tokens };
  }
}
