"""Which system is measured when, and at which load."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The first system once more, as if it were another one: what it shows is noise.
AGAIN = " again"


@dataclass(frozen=True)
class Point:
    """A closed loop of `concurrency` requests, or an open loop at `rate` requests/s; `count` requests in a block."""

    concurrency: int | None
    rate: float | None
    count: int

    @property
    def name(self) -> str:
        return f"c{self.concurrency}" if self.concurrency else f"r{self.rate:g}"

    def __str__(self) -> str:
        return f"{self.concurrency} at a time" if self.concurrency else f"{self.rate:g} a second"


def in_order(names: Iterable[str]) -> list[str]:
    """The names of points, each once: closed loops from the smallest to the widest, then open ones."""
    return sorted(set(names), key=lambda name: (name[0], float(name[1:])))


@dataclass(frozen=True)
class Visit:
    """One arm's turn in one round: every point, in an order of its own."""

    round: int
    arm: str

    @property
    def system(self) -> str:
        return self.arm.removesuffix(AGAIN)


def arms(names: Sequence[str]) -> list[str]:
    """The systems, and the first one again."""
    return [*names, names[0] + AGAIN]


def schedule(names: Sequence[str], rounds: int, seed: int) -> list[Visit]:
    """A random order of arms in each first of two rounds, and its mirror image in the second: ABBA."""
    generator = random.Random(seed)
    visits: list[Visit] = []
    for number in range(rounds):
        if number % 2 == 0:
            order = generator.sample(arms(names), len(names) + 1)
        visits += [Visit(number, arm) for arm in (order if number % 2 == 0 else order[::-1])]
    return visits


def points(concurrency: Sequence[int], rates: Sequence[float], waves: int, seconds: float) -> list[Point]:
    """`waves` requests for each place of a closed loop, at least two; what arrives within `seconds` in an open one."""
    closed = [Point(number, None, max(2, waves * number)) for number in concurrency]
    return closed + [Point(None, rate, max(2, round(rate * seconds))) for rate in rates]
