"""The line before the engine: who may join it, from how fast it moves. Pure: no clock, no I/O.

The engine takes requests in order and generates `capacity` answers at a time. So the first ones in the line are
running, the others wait, and how long the last one will wait follows from how fast answers and prompt tokens were done
lately. Only times in which the engine was full say how fast it can be.
"""

import math
from dataclasses import dataclass, field

# Speeds are averages over about this many seconds of a full engine, believed once this many requests were answered.
MEMORY_SECONDS = 60.0
FIRST_ANSWERS = 4


@dataclass(frozen=True, eq=False)
class Place:
    """One request's place in the line: the answers it asks for and its prompt's tokens."""

    sequences: int
    tokens: int


@dataclass
class Line:
    """Who is in the engine or waits for it. Raises nothing: `delay` says how long, the caller decides."""

    capacity: int
    places: dict[Place, None] = field(default_factory=dict)
    sequences: int = 0
    answers: int = 0
    full_since: float | None = None
    seconds: float = 0.0
    done_sequences: float = 0.0
    done_tokens: float = 0.0

    @property
    def full(self) -> bool:
        """Whether a request that joins now has to wait."""
        return self.sequences >= self.capacity

    @property
    def queued(self) -> int:
        """Answers beyond what the engine generates at a time."""
        return max(0, self.sequences - self.capacity)

    def waiting(self) -> tuple[int, int]:
        """Answers and prompt tokens that wait for a turn."""
        running = sequences = tokens = 0
        for place in self.places:
            if running < self.capacity:
                running += place.sequences
            else:
                sequences += place.sequences
                tokens += place.tokens
        return sequences, tokens

    def delay(self, sequences: int, tokens: int) -> float:
        """In how many seconds that much more work gets its turn; 0 as long as no speed is known."""
        if self.answers < FIRST_ANSWERS or not self.seconds:
            return 0.0
        by_tokens = tokens * self.seconds / self.done_tokens if self.done_tokens else 0.0
        return max(sequences * self.seconds / self.done_sequences, by_tokens)

    def join(self, place: Place, now: float) -> None:
        """Take a place at the end."""
        self.places[place] = None
        self.sequences += place.sequences
        if self.full and self.full_since is None:
            self.full_since = now

    def leave(self, place: Place, now: float, done: bool) -> None:
        """Give the place up; `done`: with an answer, which tells how fast the engine is."""
        if self.full_since is not None:
            elapsed = now - self.full_since
            self.answers += done
            keep = math.exp(-elapsed / MEMORY_SECONDS)
            self.seconds = self.seconds * keep + elapsed
            self.done_sequences = self.done_sequences * keep + done * place.sequences
            self.done_tokens = self.done_tokens * keep + done * place.tokens
        del self.places[place]
        self.sequences -= place.sequences
        self.full_since = now if self.full else None
