"""Forms of a model against the first one: how much was lost, with intervals, and whether that is too much. Pure."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import eq
from typing import Any, TypeVar

from benchmarks.console import BenchmarkError
from benchmarks.quality_asks import Passage, Reply, Sample
from benchmarks.stats import percentile

T = TypeVar("T")
RESAMPLES = 2000
ALL = "all"


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval over `count` texts or questions."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Thresholds:
    """What may be lost against the first form. Shares are of 1."""

    perplexity_ratio: float = 1.1
    agreement: float = 0.9
    stop_rate_drop: float = 0.1
    length_drift: float = 0.25
    accuracy_drop: float = 0.05


@dataclass(frozen=True)
class Finding:
    """One measure of one form. `least` and `most` are the limits; infinite ones are none."""

    form: str
    metric: str
    interval: Interval
    least: float
    most: float

    @property
    def verdict(self) -> str:
        """ "fail" and "pass" where the whole interval says so; "unclear" where it holds a limit."""
        low, high = self.interval.low, self.interval.high
        if high < self.least or low > self.most:
            return "fail"
        return "pass" if self.least <= low and high <= self.most else "unclear"

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity."""
        limits = {
            name: edge if math.isfinite(edge) else None for name, edge in (("least", self.least), ("most", self.most))
        }
        found = {"form": self.form, "metric": self.metric, **asdict(self.interval)}
        return {**found, **limits, "verdict": self.verdict}


def bootstrap(units: Sequence[T], statistic: Callable[[Sequence[T]], float], seed: int = 0) -> Interval:
    """The statistic over all units, and the percentiles of it over resamples of whole units (texts, questions)."""
    generator = random.Random(seed)
    values = [statistic(generator.choices(units, k=len(units))) for _ in range(RESAMPLES)]
    return Interval(statistic(units), percentile(values, 2.5), percentile(values, 97.5), len(units))


def perplexity(passages: Sequence[Passage]) -> float:
    """e to the mean loss of a token."""
    return math.exp(sum(item.loss for item in passages) / sum(len(item.tokens) for item in passages))


def levels(sample: Sample) -> dict[str, Interval]:
    """What one form does by itself: perplexity by language, stop rate, mean length, accuracy."""
    found = {f"perplexity_{language}": bootstrap(texts, perplexity) for language, texts in by_language(sample.passages)}
    found["stop_rate"] = bootstrap(sample.replies, lambda replies: share([item.stopped for item in replies]))
    found["mean_length"] = bootstrap(sample.replies, mean_length)
    if right := answers(sample):
        found["accuracy"] = bootstrap(right, share)
    return found


def by_language(passages: Sequence[Passage]) -> list[tuple[str, list[Passage]]]:
    """All passages, and those of each language."""
    languages = sorted({item.language for item in passages})
    return [(ALL, list(passages))] + [
        (name, [item for item in passages if item.language == name]) for name in languages
    ]


def share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def mean_length(replies: Sequence[Reply]) -> float:
    return sum(item.tokens for item in replies) / len(replies)


def answers(sample: Sample) -> list[bool]:
    """Of every multiple-choice question, whether it was answered rightly."""
    return [right for subject in sample.right.values() for right in subject]


def against(name: str, first: Sample, other: Sample, limits: Thresholds) -> list[Finding]:
    """One form against the first, text by text and question by question. Raises BenchmarkError for other tokens."""
    texts = list(zip(first.passages, other.passages, strict=True))
    if any(a.tokens != b.tokens for a, b in texts):
        raise BenchmarkError(f"{name} cuts the texts into other tokens than the first: they cannot be compared")
    replies = list(zip(first.replies, other.replies, strict=True))
    longer = 1 + limits.length_drift
    found = [
        Finding(name, "perplexity_ratio", bootstrap(texts, perplexity_ratio), -math.inf, limits.perplexity_ratio),
        Finding(name, "agreement", bootstrap(matches(texts), agreement), limits.agreement, math.inf),
        Finding(name, "stop_rate_change", bootstrap(replies, stop_rate_change), -limits.stop_rate_drop, math.inf),
        Finding(name, "length_ratio", bootstrap(replies, length_ratio), 1 / longer, longer),
    ]
    if right := list(zip(answers(first), answers(other), strict=True)):
        change = bootstrap(right, lambda pairs: share([b for _, b in pairs]) - share([a for a, _ in pairs]))
        found.append(Finding(name, "accuracy_change", change, -limits.accuracy_drop, math.inf))
    return found


def perplexity_ratio(pairs: Sequence[tuple[Passage, Passage]]) -> float:
    return perplexity([b for _, b in pairs]) / perplexity([a for a, _ in pairs])


def matches(pairs: Sequence[tuple[Passage, Passage]]) -> list[tuple[int, int]]:
    """Of each text: places at which both find the same token likeliest, after the same true text; and all places."""
    return [(sum(map(eq, a.likeliest, b.likeliest)), len(a.likeliest)) for a, b in pairs]


def agreement(counts: Sequence[tuple[int, int]]) -> float:
    return sum(same for same, _ in counts) / sum(places for _, places in counts)


def stop_rate_change(pairs: Sequence[tuple[Reply, Reply]]) -> float:
    return share([b.stopped for _, b in pairs]) - share([a.stopped for a, _ in pairs])


def length_ratio(pairs: Sequence[tuple[Reply, Reply]]) -> float:
    return mean_length([b for _, b in pairs]) / mean_length([a for a, _ in pairs])


def gate(samples: Mapping[str, Sample], limits: Thresholds) -> list[Finding]:
    """Every form after the first against the first."""
    name, *others = samples
    return [finding for other in others for finding in against(other, samples[name], samples[other], limits)]
