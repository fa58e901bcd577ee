"""Where the time of an answer goes: what the ceilings ask for, the engine beyond that, its queue, HTTP, guard, client.

The engine's own timers say how long requests waited and ran, the guard's how long it had them, and this client's how
long it waited. What one of them has beyond the next one inside is what lies between the two.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.roofline import Model, limit_seconds

PARTS = {
    "ceiling": "the least that the measured ceilings allow",
    "engine": "the engine beyond that",
    "queue": "waiting for the engine",
    "http": "vLLM's HTTP server, tokenizer, and the way to the engine and back",
    "guard": "the guard",
    "client": "network and client",
}


def floor(model: Model, limits: Mapping[str, Any], batch: int, prompt: float, answer: float) -> float:
    """Seconds that an answer takes at least where `batch` requests are kept running.

    All of them must be prefilled, one after the other, and share each of the steps after the first token.
    """
    prefill = limit_seconds(model.prefill_bytes(prompt), model.prefill_flops(prompt), limits)
    context = prompt + answer / 2
    step = limit_seconds(model.decode_bytes(batch, context), model.decode_flops(batch, context), limits)
    return batch * prefill + (answer - 1) * step


def said(block: Mapping[str, Any]) -> dict[str, float]:
    """Mean seconds a request by the server's own timers; {} where it has none."""
    return dict((block.get("server") or {}).get("means", {}))


def means(blocks: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Seconds a request by each clock, over blocks whose server has timers; None where it has none."""
    told = [block for block in blocks if "decode_s" in said(block)]
    if not told:
        return None
    keys = set.intersection(*(set(said(block)) for block in told))
    found = {key: fmean(said(block)[key] for block in told) for key in keys}
    answered = fmean(block["total_output_tokens"] / block["completed"] for block in told)
    asked = fmean(block["total_input_tokens"] / block["completed"] for block in told)
    client = fmean(block["mean_e2el_ms"] / 1000 for block in told)
    return found | {"client_e2e_s": client, "prompt": asked, "answer": answered}


def breakdown(times: Mapping[str, float], least: float | None, guard: float) -> dict[str, float]:
    """Seconds of each of PARTS in a mean answer; they add up to what the client saw.

    `least` is the floor, `guard` the guard's own time as it was measured in process. Without the guard's timer the
    client cannot be told from HTTP, and is left out.
    """
    engine = times["prefill_s"] + times["decode_s"]
    # A ceiling that was measured on a busier machine than the block may lie above what the engine did.
    ceiling = min(least or 0.0, engine)
    inside = engine + times["queue_s"]
    parts = {"ceiling": ceiling, "engine": engine - ceiling, "queue": times["queue_s"]}
    if "guard_e2e_s" not in times:
        return parts | {"http": times["client_e2e_s"] - inside}
    guard = min(guard, times["guard_e2e_s"] - inside)
    http = times["guard_e2e_s"] - inside - guard
    return parts | {"http": http, "guard": guard, "client": times["client_e2e_s"] - times["guard_e2e_s"]}
