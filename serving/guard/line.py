"""The line before the engine: who may join it, from how fast it moves. Pure: no clock, no I/O.

The engine takes requests in order and generates `capacity` answers at a time. So the first ones in the line are
running, the others wait, and how long the last one will wait follows from how fast answers and prompt tokens were done
lately. Only times in which the engine was full say how fast it can be: of each answer that share counts which was made
in such times. (Answers that began together also end together: the first to leave ends the full time for all of them,
so to count only those that leave a full engine would miss nearly all.)
"""

import math
from dataclasses import dataclass, field

# Speeds are averages over about this many generations of answers in a full engine, within these bounds in seconds, and
# believed once this many requests were answered. Longer ones follow too late when the engine slows down under overload.
GENERATIONS = 4
SHORTEST_MEMORY, LONGEST_MEMORY = 10.0, 60.0
FIRST_ANSWERS = 4


@dataclass(frozen=True, eq=False)
class Place:
    """One request's place in the line: the answers it asks for and its prompt's tokens."""

    sequences: int
    tokens: int


@dataclass(frozen=True)
class Turn:
    """When a place got its turn: by the clock, and by the seconds for which the engine had been full until then."""

    at: float
    full: float


@dataclass
class Line:
    """Who is in the engine or waits for it. Raises nothing: `delay` says how long, the caller decides."""

    capacity: int
    running: dict[Place, Turn] = field(default_factory=dict)
    queue: dict[Place, None] = field(default_factory=dict)
    sequences: int = 0
    running_sequences: int = 0
    queued_tokens: int = 0
    now: float = 0.0
    full_seconds: float = 0.0
    answers: int = 0
    # These three fade.
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
        return self.sequences - self.running_sequences, self.queued_tokens

    @property
    def memory(self) -> float:
        """Seconds over which speeds are averaged: a generation is as many answers as the engine makes at a time."""
        if not self.done_sequences:
            return LONGEST_MEMORY
        generation = self.capacity * self.seconds / self.done_sequences
        return min(max(GENERATIONS * generation, SHORTEST_MEMORY), LONGEST_MEMORY)

    def delay(self, sequences: int, tokens: int) -> float:
        """In how many seconds that much more work gets its turn; 0 as long as no speed is known."""
        if self.answers < FIRST_ANSWERS or not self.done_sequences:
            return 0.0
        by_tokens = tokens * self.seconds / self.done_tokens if self.done_tokens else 0.0
        return max(sequences * self.seconds / self.done_sequences, by_tokens)

    def join(self, place: Place, now: float) -> None:
        """Take a place at the end."""
        self.pass_time(now)
        self.queue[place] = None
        self.sequences += place.sequences
        self.queued_tokens += place.tokens
        self.give_turns()

    def leave(self, place: Place, now: float, done: bool) -> None:
        """Give the place up; `done`: with an answer, which tells how fast the engine is."""
        self.pass_time(now)
        turn = self.running.pop(place, None)
        if done:
            self.count(place, turn)
        if turn is None:
            del self.queue[place]
            self.queued_tokens -= place.tokens
        else:
            self.running_sequences -= place.sequences
        self.sequences -= place.sequences
        self.give_turns()

    def pass_time(self, now: float) -> None:
        """Count the time since the last change if the engine was full; what was seen before fades by it."""
        elapsed = now - self.now if self.full else 0.0
        keep = math.exp(-elapsed / self.memory)
        self.full_seconds += elapsed
        self.seconds = self.seconds * keep + elapsed
        self.done_sequences *= keep
        self.done_tokens *= keep
        self.now = now

    def count(self, place: Place, turn: Turn | None) -> None:
        """Count an answer, by the share of its time in which the engine was full."""
        if turn is None or turn.at == self.now:
            share = float(self.full)
        else:
            share = (self.full_seconds - turn.full) / (self.now - turn.at)
        self.answers += share > 0
        self.done_sequences += share * place.sequences
        self.done_tokens += share * place.tokens

    def give_turns(self) -> None:
        """Let the first in the queue run while there is room."""
        while self.queue and self.running_sequences < self.capacity:
            place = next(iter(self.queue))
            del self.queue[place]
            self.queued_tokens -= place.tokens
            self.running[place] = Turn(self.now, self.full_seconds)
            self.running_sequences += place.sequences
