"""The stages of `python -m benchmarks full`: each a folder, each able to say what it still lacks and to do that."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import options
from benchmarks.compare import Comparison
from benchmarks.facts import facts
from benchmarks.growth import PROMPTS, REQUESTS
from benchmarks.probing import Probing, summary
from benchmarks.processes import running
from benchmarks.report import AGAINST, GROWTH, MAIN, STARTUP
from benchmarks.schedule import Point, points, prompts
from benchmarks.starts import Starts
from benchmarks.store import Store, write_json
from benchmarks.systems import Chosen, System, describe

CONCURRENCY, WAVES, RATE_SECONDS = (1, 8, 32), 2, 15.0
# One wave of 32 questions, which the one-at-a-time baseline takes minutes for.
QUESTIONS = 32
ONE_AT_A_TIME = ("hf",)
PROMPTS_EACH = 2
WARMUPS = 1
# Seconds that one of each takes on two cores with the demo model; only for the time that is left.
TURN_S, GROWTH_TURN_S, START_S, SEARCH_S, ONE_AT_A_TIME_S = 35.0, 60.0, 40.0, 240.0, 70.0
KINDS = ("main", "against", "startup", "growth", "capacity")
ASKED = ("attain", "think_time", "burstiness", "seconds", "rate")


@dataclass(frozen=True)
class Stage:
    """`guess` is about how many seconds of it are missing, 0 when it is done; `run` takes those of what follows."""

    kind: str
    title: str
    guess: Callable[[], float]
    run: Callable[[float], None]

    def timed(self, later: float) -> float:
        """Do it, and say how many seconds it took."""
        started = time.monotonic()
        self.run(later)
        return time.monotonic() - started


@dataclass(frozen=True)
class Full:
    """All stages over the chosen systems, in `args.out`."""

    args: argparse.Namespace
    chosen: Chosen

    def begin(self) -> None:
        """Refuse a folder with other settings before anything slow."""
        store = Store(self.args.out)
        store.begin(self.asked())
        model = self.chosen.recipe and self.chosen.recipe.model
        store.note(**facts(self.args.command), systems=describe(self.chosen.systems), model=model)

    def asked(self) -> Mapping[str, str]:
        """Everything that the stages depend on but the number of rounds."""
        main = self.comparison(MAIN, self.main_points()).asked(self.chosen)
        return {**main, **{key: str(getattr(self.args, key)) for key in ASKED}}

    def stages(self) -> list[Stage]:
        """In order of what a reader wants first."""
        first, *others = self.chosen.present
        ours = [system for system in (first, *others) if system.name in (first.name, "plain") or not system.command]
        rest = [system for system in others if system not in ours]
        found = [self.compared(MAIN, ours, self.main_points(), TURN_S)]
        for system in rest:
            alone = system.name in ONE_AT_A_TIME
            loads = points([QUESTIONS] if alone else CONCURRENCY, [], 1, 0)
            cost = ONE_AT_A_TIME_S if alone else TURN_S
            found.append(self.compared(f"{AGAINST}{system.name}", [first, system], loads, cost))
        if first.command:
            found.append(self.starts([system for system in ours if system.command]))
        found.append(self.compared(GROWTH, ours, self.growth_points(), GROWTH_TURN_S))
        return [*found, *(self.capacity(system) for system in ours)]

    def main_points(self) -> list[Point]:
        return points(CONCURRENCY, [self.args.rate], WAVES, RATE_SECONDS)

    def growth_points(self) -> list[Point]:
        """Waves of one, and prompts as long as the model takes with the one token that is asked for."""
        longest = self.chosen.recipe.max_model_len - 1 if self.chosen.recipe else PROMPTS[-1]
        return [*points(REQUESTS, [], 1, 0), *prompts(PROMPTS, PROMPTS_EACH, longest)]

    def comparison(self, name: str, loads: Sequence[Point], later: float = 0.0) -> Comparison:
        return Comparison(
            args=self.args,
            points=loads,
            rounds=self.args.rounds,
            store=Store(self.args.out / name),
            limits=options.limits(self.args),
            later=later,
        )

    def compared(self, name: str, systems: Sequence[System], loads: Sequence[Point], cost: float) -> Stage:
        """A stage of interleaved blocks."""
        chosen = Chosen(tuple(systems), self.chosen.recipe)
        asked = self.comparison(name, loads)

        def guess() -> float:
            return cost * sum(bool(asked.missing(visit)) for visit in asked.schedule(chosen))

        def run(later: float) -> None:
            self.comparison(name, loads, later).run(chosen)

        kind = name.partition("-")[0]
        return Stage(kind, f"{kind}: {' and '.join(system.name for system in systems)}", guess, run)

    def starts(self, systems: Sequence[System]) -> Stage:
        """Starts in turns."""
        folder = self.args.out / STARTUP
        starts = Starts(systems, self.args.rounds, WARMUPS, self.args.seed, folder)

        def run(later: float) -> None:
            folder.mkdir(exist_ok=True)
            starts.run(later)

        return Stage("startup", "start-up", lambda: START_S * len(starts.missing()), run)

    def capacity(self, system: System) -> Stage:
        """The search on one server. It begins at half of what a closed loop of 8 got done in the main stage."""
        done = self.args.out / f"capacity-{system.name}.json"
        folder = self.args.out / "capacity" / system.name

        def run(later: float) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            with running(system, folder) as target:
                args = argparse.Namespace(**vars(self.args) | {"model": target.model, "start_rate": self.start_rate()})
                write_json(done, summary(Probing(args, target.server, folder).search(), args))

        return Stage(
            "capacity", f"users within the SLO: {system.name}", lambda: 0.0 if done.exists() else SEARCH_S, run
        )

    def start_rate(self) -> float:
        """The same for every system, so that they are judged at the same rates; in requests/s, with two digits."""
        blocks = [block for block in Store(self.args.out / MAIN).load() if block["point"] == "c8"]
        rates = [block["request_throughput"] for block in blocks if block["request_throughput"]]
        return float(f"{min(rates) / 2:.2g}") if rates else 0.5
