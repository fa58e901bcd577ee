"""When an open loop sends each request."""

import math
import random
from itertools import accumulate


def arrivals(count: int, rate: float, *, burstiness: float = 1.0, seed: int = 0) -> list[float]:
    """Seconds from the start of each of `count` requests, ascending, at `rate` requests a second.

    The intervals are gamma distributed with shape `burstiness`, as in `vllm bench serve`: 1 is a Poisson process, less
    is burstier (coefficient of variation 1/sqrt(burstiness)), infinity is a constant rate. Like there, the times are
    scaled so that the last one is at count/rate: two runs at one rate then differ in their order, not in their load.
    """
    if math.isinf(burstiness):
        return [(number + 1) / rate for number in range(count)]
    generator = random.Random(seed)
    times = list(accumulate(generator.gammavariate(burstiness, 1.0) for _ in range(count)))
    return [time * count / rate / times[-1] for time in times]
