"""Which system is measured when, and at which load."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The first system once more, as if it were another one: what it shows is noise.
AGAIN = " again"


@dataclass(frozen=True)
class Point:
    """A closed loop of `concurrency` requests, or an open loop at `rate` requests/s; `count` requests in a block.

    With `prompt`, each is one of so many tokens, one at a time, and one token is asked for: what a prompt costs.
    """

    concurrency: int | None
    rate: float | None
    count: int
    prompt: int | None = None

    @property
    def name(self) -> str:
        if self.prompt:
            return f"p{self.prompt}"
        return f"c{self.concurrency}" if self.concurrency else f"r{self.rate:g}"

    def __str__(self) -> str:
        return point_title(self.name)


def point_title(name: str) -> str:
    """A point's name in words: "8 at a time", "1.5 a second" or "a prompt of 512"."""
    number = name[1:]
    return {"c": f"{number} at a time", "r": f"{number} a second", "p": f"a prompt of {number}"}[name[0]]


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


def prompts(lengths: Sequence[int], count: int, most: int) -> list[Point]:
    """`count` prompts of each length, one after the other; a length beyond `most` becomes that."""
    return [Point(1, None, count, min(length, most)) for length in lengths]
