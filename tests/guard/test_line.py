"""The line before the engine, against an engine that is simulated in time."""

import heapq
import math
import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.line import Line, Place

CAPACITY = 8
SERVICE_SECONDS = 2.0  # of each answer once it runs, so a full engine does 4 a second
RATE = CAPACITY / SERVICE_SECONDS


class Overload:
    """Requests that come `factor` times faster than the engine can answer, for a while; refused beyond `longest` s."""

    def __init__(self, factor: float, longest: float, seconds: float = 300.0, slower_at: float = math.inf) -> None:
        self.line = Line(CAPACITY)
        self.longest = longest
        self.seconds = seconds
        self.slower_at = slower_at
        self.random = random.Random(7)
        self.waits: list[float] = []
        self.started: list[float] = []
        self.refused = self.done = 0
        self.queue: list[tuple[float, Place]] = []
        self.running: list[tuple[float, int, Place]] = []
        self.run(factor * RATE)

    def run(self, arrivals: float) -> None:
        now = 0.0
        while (now := now + self.random.expovariate(arrivals)) < self.seconds:
            self.finish_until(now)
            waiting, _ = self.line.waiting()
            if self.line.full and self.line.delay(waiting + 1, 0) > self.longest:
                self.refused += 1
                continue
            place = Place(1, 0)
            self.line.join(place, now)
            self.queue.append((now, place))
            self.start(now)

    def start(self, now: float) -> None:
        while self.queue and len(self.running) < CAPACITY:
            joined, place = self.queue.pop(0)
            self.waits.append(now - joined)
            self.started.append(now)
            seconds = SERVICE_SECONDS * (1.5 if now > self.slower_at else 1)
            end = now + seconds * self.random.uniform(0.5, 1.5)
            heapq.heappush(self.running, (end, id(place), place))

    def finish_until(self, now: float) -> None:
        while self.running and self.running[0][0] <= now:
            end, _, place = heapq.heappop(self.running)
            self.done += 1
            self.line.leave(place, end, done=True)
            self.start(end)


@pytest.mark.parametrize("factor", [2.0, 4.0, 10.0])
@pytest.mark.parametrize("longest", [2.0, 10.0])
def test_under_overload_the_engine_stays_busy_and_nobody_waits_much_longer(factor: float, longest: float) -> None:
    overload = Overload(factor, longest)
    assert overload.done >= 0.95 * RATE * overload.seconds
    settled = overload.waits[100:]
    assert max(settled) <= 1.5 * longest
    assert overload.refused > 0


def test_waits_follow_an_engine_that_slows_down() -> None:
    """By half, at once. Twenty seconds later a wait is again what was promised, on the average."""
    overload = Overload(4.0, longest=5.0, seconds=110.0, slower_at=60.0)
    later = [wait for at, wait in zip(overload.started, overload.waits, strict=True) if at > 80]
    assert mean(later) <= 5.0


def test_below_capacity_nobody_is_refused() -> None:
    assert Overload(0.5, longest=2.0).refused == 0


def test_nothing_is_known_before_a_few_answers() -> None:
    line = Line(1)
    places = [Place(1, 10) for _ in range(6)]
    for place in places:
        line.join(place, 0.0)
    for number, place in enumerate(places[:4], 1):
        assert line.delay(100, 0) == 0
        line.leave(place, float(number), done=True)
    assert line.delay(100, 0) == pytest.approx(100, rel=0.1)


def test_prompt_tokens_count_as_well_as_answers() -> None:
    line = Line(1)
    for number in range(10):
        place, other = Place(1, 100), Place(1, 100)
        line.join(place, float(number))
        line.join(other, float(number))
        line.leave(place, number + 1.0, done=True)
        line.leave(other, number + 1.0, done=True)
    assert line.delay(1, 100) < 1
    assert line.delay(1, 20_000) == pytest.approx(100, rel=0.1)


def test_only_what_was_answered_says_how_fast_the_engine_is() -> None:
    line = Line(1)
    places = [Place(1, 0) for _ in range(101)]
    for place in places:
        line.join(place, 0.0)
    for number, place in enumerate(places[:100], 1):
        line.leave(place, float(number), done=number % 10 == 0)
    assert line.delay(1, 0) == pytest.approx(10, rel=0.3)


@pytest.mark.parametrize("gap", [0.0, 0.05])
@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_answers_that_end_together_all_count(gap: float, spread: float) -> None:
    """As many users as the engine has places, each of whom asks again a moment after the answer: waves."""
    line, generator = Line(CAPACITY), random.Random(1)
    events: list[tuple[float, int, Place]] = []

    def ask(now: float) -> None:
        place = Place(1, 0)
        line.join(place, now)
        heapq.heappush(events, (now + SERVICE_SECONDS + spread * generator.random(), id(place), place))

    for _ in range(CAPACITY):
        ask(0.0)
    again: list[float] = []
    for _ in range(20 * CAPACITY):
        now, _, place = heapq.heappop(events)
        while again and again[0] + gap <= now:
            ask(heapq.heappop(again) + gap)
        line.leave(place, now, done=True)
        heapq.heappush(again, now)
        if not events or events[0][0] >= again[0] + gap:
            ask(heapq.heappop(again) + gap)
    assert line.delay(CAPACITY, 0) == pytest.approx(SERVICE_SECONDS, rel=0.15)


def test_idle_times_do_not_count() -> None:
    line = Line(1)
    for start in range(0, 10_000, 1000):
        place = Place(1, 0)
        line.join(place, float(start))
        line.leave(place, start + 2.0, done=True)
    assert line.delay(1, 0) == pytest.approx(2.0, rel=0.01)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(0, 10_000), st.floats(0, 100)), max_size=60))
def test_its_sums_always_agree(steps: list[tuple[bool, int, int, float]]) -> None:
    line, inside, now = Line(CAPACITY), list[Place](), 0.0
    for joins, sequences, tokens, elapsed in steps:
        now += elapsed
        if joins or not inside:
            inside.append(Place(sequences, tokens))
            line.join(inside[-1], now)
        else:
            line.leave(inside.pop(sequences % len(inside)), now, done=bool(tokens % 2))
        assert line.sequences == sum(place.sequences for place in inside)
        assert [*line.running, *line.queue] == inside
        waiting, waiting_tokens = line.waiting()
        assert 0 <= waiting <= line.queued and 0 <= waiting_tokens <= sum(place.tokens for place in inside)
        assert line.delay(waiting, waiting_tokens) >= 0
