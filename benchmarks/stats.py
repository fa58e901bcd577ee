"""The statistics that decide: percentiles, Wilson bounds, paired ratios with their intervals, and the gate."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

Z95 = NormalDist().inv_cdf(0.975)
RESAMPLES = 10_000
FEWEST_PAIRS = 4
SMALLEST_EFFECT = 0.03


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile by linear interpolation, as numpy's default; 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def wilson(successes: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, 1927), 95 % by default."""
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def fewest_requests(target: float) -> int:
    """How many requests without a violation it takes for Wilson's lower bound to reach `target`: 73 for 95 %."""
    return math.ceil(Z95 * Z95 * target / (1 - target))


def student_t95(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by its expansion around the normal one (Abramowitz and Stegun 26.7.5)."""
    z = Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))


@dataclass(frozen=True)
class Ratio:
    """A ratio of two systems over paired blocks, with its 95 % interval."""

    value: float
    low: float
    high: float
    pairs: int

    @property
    def distance(self) -> float:
        """How far the interval reaches from 1, as a share: the noise floor, when both systems are the same one."""
        return max(self.high, 1 / self.low) - 1


def paired_ratio(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Ratio:
    """The geometric mean of second/first, block by block, with a bootstrap interval of the mean log-ratio.

    The percentiles are the expanded ones for small samples (T. Hesterberg, "What teachers should know about the
    bootstrap", 2015): the plain ones are too narrow for the handful of blocks that a benchmark has.
    """
    logs = [math.log(b / a) for a, b in zip(first, second, strict=True)]
    count = len(logs)
    value = math.exp(fmean(logs))
    if count < 2:
        return Ratio(value, 0.0, math.inf, count)
    generator = random.Random(seed)
    means = [fmean(generator.choices(logs, k=count)) for _ in range(RESAMPLES)]
    tail = 100 * NormalDist().cdf(-math.sqrt(count / (count - 1)) * student_t95(count - 1))
    return Ratio(value, math.exp(percentile(means, tail)), math.exp(percentile(means, 100 - tail)), count)


@dataclass(frozen=True)
class Slope:
    """A line through points, value * x + intercept, with the 95 % interval of its slope; infinite below 3 points."""

    value: float
    low: float
    high: float
    intercept: float


def slope(xs: Sequence[float], ys: Sequence[float]) -> Slope:
    """The least-squares line and the interval of its slope by Student's t. Needs two different xs."""
    middle, height, freedom = fmean(xs), fmean(ys), len(xs) - 2
    spread = math.fsum((x - middle) ** 2 for x in xs)
    value = math.fsum((x - middle) * (y - height) for x, y in zip(xs, ys, strict=True)) / spread
    intercept = height - value * middle
    if freedom < 1:
        return Slope(value, -math.inf, math.inf, intercept)
    rest = math.fsum((y - value * x - intercept) ** 2 for x, y in zip(xs, ys, strict=True))
    half = student_t95(freedom) * math.sqrt(rest / freedom / spread)
    return Slope(value, value - half, value + half, intercept)


def gate(ratio: Ratio, noise: Ratio) -> str:
    """ "worse", "better" or "same" for a ratio where more is better; "unknown" with too few blocks to tell.

    A difference counts only if the interval excludes 1 and the effect passes both 3 % and what the same system shows
    against itself.
    """
    if ratio.pairs < FEWEST_PAIRS or noise.pairs < FEWEST_PAIRS:
        return "unknown"
    effect = max(ratio.value, 1 / ratio.value) - 1
    if ratio.low <= 1 <= ratio.high or effect <= max(SMALLEST_EFFECT, noise.distance):
        return "same"
    return "better" if ratio.value > 1 else "worse"
