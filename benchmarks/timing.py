"""Two ways to do the same work, timed in turn, so that what else the machine does hits both."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time

Loop = Callable[[int], Awaitable[None]]
"""`await loop(n)` does the work n times. The loop is inside, so that no call of it is part of what is measured."""

Sample = Callable[[], Awaitable[float]]
"""`await sample()` does some work and returns the seconds that one call, or one message, of it took."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same work, by hand and by a framework.

    Args:
        by_hand: plain async code, with the classes and dependencies that the framework uses.
        framework: the same through the framework.
        effects: how many effects the work has had so far, whoever did it: the tests compare both.
        calls: how many calls a sample makes; None to find it from the time that they take.
        clock: in seconds. Processor time by default, which other processes take least from; the clock on the wall for work
            that waits.
    """

    by_hand: Loop
    framework: Loop
    effects: Callable[[], int]
    calls: int | None = None
    clock: Callable[[], float] = process_time


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Args:
        rounds: how many samples of each side.
        sample_seconds: how long one sample lasts.
    """

    rounds: int = 30
    sample_seconds: float = 0.03


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds for one call, a number for each round: those of one round were taken one right after the other."""

    by_hand: Sequence[float]
    framework: Sequence[float]

    @property
    def ratio(self) -> float:
        """How many times the work by hand: the median of the rounds."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> Sequence[float]:
        """The ratio of each round."""
        return [f / b for f, b in zip(self.framework, self.by_hand, strict=True)]

    @property
    def best(self) -> float:
        """The ratio of the fastest sample of each side: what disturbs only makes slower."""
        return min(self.framework) / min(self.by_hand)

    @property
    def spread(self) -> tuple[float, float]:
        """The lower and the upper quartile of the rounds' ratios."""
        return quartiles(self.ratios)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile."""
    if len(values) < 2:
        return values[0], values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


async def compare(pair: Pair, effort: Effort) -> Comparison:
    """Time both sides in turn; who begins a round changes each time."""

    async def sample(loop: Loop) -> Callable[[], Awaitable[float]]:
        count = pair.calls or await _calls(loop, effort.sample_seconds, pair.clock)

        async def take() -> float:
            # Collections go on during the samples, as they do in production; each begins with an empty slate.
            gc.collect()
            return await timed(loop, count, pair.clock)

        return take

    return await in_turns(await sample(pair.by_hand), await sample(pair.framework), effort.rounds)


async def in_turns(by_hand: Sample, framework: Sample, rounds: int) -> Comparison:
    """Take samples of both sides in turn; who begins a round changes each time."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        sides = [(by_hand, found[0]), (framework, found[1])]
        for sample, seconds in sides if number % 2 == 0 else sides[::-1]:
            seconds.append(await sample())
    return Comparison(*found)


async def timed(loop: Loop, count: int, clock: Callable[[], float] = perf_counter) -> float:
    """Seconds for one of `count` calls."""
    began = clock()
    await loop(count)
    return (clock() - began) / count


async def _calls(loop: Loop, seconds: float, clock: Callable[[], float]) -> int:
    """How many calls take about so long. Also warms up."""
    count = 1
    while (taken := await timed(loop, count, clock) * count) < seconds / 2:
        count = max(count + 1, min(count * 10, round(count * seconds / (taken or seconds / 10))))
    return count
