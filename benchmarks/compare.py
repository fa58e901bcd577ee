"""Interleaved blocks over several systems: every point on every system, in turns whose order changes (ABBA)."""

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import options
from benchmarks.arrivals import arrivals
from benchmarks.block import Block, run_block
from benchmarks.client import Call
from benchmarks.console import log, time_left
from benchmarks.facts import facts
from benchmarks.guard_time import guard_time
from benchmarks.monitor import Limits
from benchmarks.processes import Running, Servers
from benchmarks.roofline import ceilings, read_model
from benchmarks.schedule import AGAIN, Point, Visit, schedule
from benchmarks.store import Store, entry, write_json
from benchmarks.systems import Chosen, describe

# A void block is measured once more.
TRIES = 2
WARM_TOKENS = 8
# Where answers differ in length, the guard's own time is measured on one of so many tokens.
GUARD_EVENTS = 64
ASKED = ("model", "url", "dataset_name", "dataset_path", "input_len", "output_len", "ignore_eos", "slo", "seed")


@dataclass(frozen=True)
class Comparison:
    """What is measured: every point on every system, `rounds` times. `args` names the workload, SLO and seed.

    No turn is begun that would not be over by `deadline` (time.monotonic), as far as those before it tell. `later` is
    how many seconds of other work follow, for the progress lines.
    """

    args: argparse.Namespace
    points: Sequence[Point]
    rounds: int
    store: Store
    limits: Limits
    deadline: float = float("inf")
    later: float = 0.0

    def run(self, chosen: Chosen, *, restart: bool = False) -> None:
        """Start what is needed, and measure every block that the folder lacks."""
        self.store.begin(self.asked(chosen))
        self.store.note(
            **facts(self.args.command), systems=describe(chosen.systems), model=chosen.recipe and chosen.recipe.model
        )
        for system in chosen.systems:
            if system.absent:
                log(f"{system.name} is absent: {system.absent}")
        visits = [visit for visit in self.schedule(chosen) if self.missing(visit)]
        if not visits:
            return
        known = self.store.run()
        if chosen.recipe and "ceilings" not in known:
            log("measuring this machine's ceilings, and what the guard takes …")
            shape = read_model(Path(chosen.recipe.model), chosen.recipe.dtype)
            if any(system.name == "launcher" for system in chosen.present):
                self.store.note(guard=guard_time(self.args.output_len or GUARD_EVENTS))
            self.store.note(ceilings=ceilings(chosen.recipe), shape=asdict(shape))
        with Servers(chosen.present, self.store.folder, resident=chosen.resident and not restart) as servers:
            try:
                self.measure(visits, servers)
            finally:
                before = known.get("startup_s", {})
                starts = {name: [*before.get(name, []), *times] for name, times in servers.startups.items()}
                memory = known.get("memory_bytes", {}) | servers.memory
                self.store.note(startup_s=before | starts, memory_bytes=memory, resident=servers.resident)

    def asked(self, chosen: Chosen) -> dict[str, str]:
        """What must be the same for a run to go on."""
        words = {key: str(getattr(self.args, key)) for key in ASKED}
        systems = ", ".join(system.name for system in chosen.systems)
        return words | {
            "systems": systems,
            "loads": "; ".join(f"{point.count} requests, {point}" for point in self.points),
            "engine": chosen.recipe.settings if chosen.recipe else "",
        }

    def schedule(self, chosen: Chosen) -> list[Visit]:
        return schedule([system.name for system in chosen.present], self.rounds, self.args.seed)

    def missing(self, visit: Visit) -> list[Point]:
        return [point for point in self.points if not self.store.path(visit, point).exists()]

    def measure(self, visits: Sequence[Visit], servers: Servers) -> None:
        """Take every turn, and say how far it is and how long the rest takes."""
        started = time.monotonic()
        longest = 0.0
        for number, visit in enumerate(visits):
            before = time.monotonic()
            if before + longest > self.deadline:
                log("the time is over: the remaining turns are left out")
                return
            left = min((before - started) / number * (len(visits) - number), self.deadline - before) if number else 0.0
            rest = time_left(left and left + self.later)
            log(f"[{number + 1} of {len(visits)}{rest}] round {visit.round + 1}: {visit.arm}")
            with servers.turn(visit.system) as target:
                self.take_turn(visit, target)
            longest = max(longest, time.monotonic() - before)

    def take_turn(self, visit: Visit, target: Running) -> None:
        """Measure the points of one turn that are missing, in a random but seeded order, after one warming block."""
        order = self.missing(visit)
        random.Random(f"{self.args.seed} {visit}").shuffle(order)
        widest = max(point.concurrency or 1 for point in order)
        warm = self.calls(target, Point(widest, None, widest), seed=-1 - visit.round, output_len=WARM_TOKENS)
        run_block(target.server, warm, concurrency=widest, slo=self.args.slo, limits=self.limits)
        for point in order:
            block, seed, tries = self.believable(visit, point, target)
            write_json(self.store.path(visit, point), entry(visit, point, block, seed, tries))
            row = block.summary()
            log(f"  {point}: {row['output_throughput']:.1f} tokens/s, first token {row['median_ttft_ms']:.0f} ms")
            for reason in block.void:
                log(f"    VOID: {reason}")

    def believable(self, visit: Visit, point: Point, target: Running) -> tuple[Block, int, int]:
        """(a block, its seed, how many were measured): the first that is not void, else the last."""
        for tries in range(1, TRIES + 1):
            seed = self.seed(visit, point, tries)
            block = self.block(point, target, seed)
            if not block.void:
                break
        return block, seed, tries

    def block(self, point: Point, target: Running, seed: int) -> Block:
        """Measure one, and see what other programs did meanwhile."""
        calls = self.calls(target, point, seed=seed, output_len=self.args.output_len)
        times = arrivals(len(calls), point.rate, seed=seed) if point.rate else None
        width = point.concurrency or 1
        before, started = target.cpu_of_others(), time.monotonic()
        block = run_block(
            target.server,
            calls,
            times=times,
            concurrency=width,
            slo=self.args.slo,
            limits=self.limits,
            scrape=True,
        )
        others = (target.cpu_of_others() - before) / (time.monotonic() - started)
        if not target.process or others <= self.limits.others:
            return block
        reason = f"other programs used {others:.0%} of a core, over {self.limits.others:.0%}"
        return replace(block, void=[*block.void, reason])

    def seed(self, visit: Visit, point: Point, tries: int) -> int:
        """All systems get the same prompts in a round.

        Only the arm that runs again, and a block that is repeated, get others, as a server may remember them.
        """
        place = list(self.points).index(point)
        again = visit.arm.endswith(AGAIN)
        base: int = self.args.seed * 1000 + visit.round
        return (base * 100 + place) * 10 + 2 * (tries - 1) + again

    def calls(self, target: Running, point: Point, *, seed: int, output_len: int | None) -> list[Call]:
        changed: dict[str, object] = {"seed": seed, "output_len": output_len}
        if point.prompt:
            changed |= {"dataset_name": "random", "dataset_path": None, "input_len": point.prompt, "output_len": 1}
        workload = argparse.Namespace(**vars(self.args) | changed)
        return [q.call(target.model, ignore_eos=self.args.ignore_eos) for q in options.questions(workload, point.count)]
