"""What runs in a peer's environment: measure its pairs and write the results as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from benchmarks.timing import Effort, Pair, compare

Pairs = Mapping[str, Pair | str]
"""By scenario: a pair, or why there is none."""


def main(make: Callable[[], Awaitable[Pairs]]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--sample-seconds", type=float, required=True)
    given = parser.parse_args()
    effort = Effort(rounds=given.rounds, sample_seconds=given.sample_seconds)
    print(json.dumps(asyncio.run(_measure(make, effort))))


async def _measure(
    make: Callable[[], Awaitable[Pairs]], effort: Effort
) -> dict[str, dict[str, list[float]] | str]:
    measured: dict[str, dict[str, list[float]] | str] = {}
    for name, pair in (await make()).items():
        if isinstance(pair, str):
            measured[name] = pair
            continue
        await check(name, pair)
        found = await compare(pair, effort)
        measured[name] = {"by_hand": list(found.by_hand), "framework": list(found.framework)}
    return measured


async def check(name: str, pair: Pair) -> None:
    """Refuse to compare what does not do the same."""
    counts: list[int] = []
    for loop in (pair.by_hand, pair.framework):
        before = pair.effects()
        await loop(3)
        counts.append(pair.effects() - before)
    if counts[0] != counts[1] or not counts[0]:
        raise RuntimeError(
            f"{name}: 3 calls had {counts[0]} effects by hand and {counts[1]} through the framework"
        )
