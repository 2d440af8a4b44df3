"""Relays and consumers in processes of their own: two relays against one, and the memory of a long run."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter

from benchmarks.peers.environment import ROOT
from benchmarks.storage.app import PARTITIONS
from benchmarks.storage.databases import Bench
from benchmarks.timing import Comparison, in_turns

_SECONDS = 300.0

Seen = tuple[float, str, str]
"""When a message was published, its key, its id."""


class Disorder(Exception):
    """What was published is not what was stored, or not in its order."""


@asynccontextmanager
async def _child(*arguments: str) -> AsyncGenerator[Process]:
    # A relay tells at its end all that it published: one long line.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.storage.child", *arguments),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        limit=1 << 28,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: Process) -> str:
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode().strip()
    if not line:
        raise RuntimeError(f"a process of the benchmark ended with {await process.wait()}")
    return line


async def relays(bench: Bench, *, count: int, rounds: int) -> Comparison:
    """Seconds for each message: through one relay, and through two that share the outbox.

    Raises:
        Disorder: a message was lost, or was first published before an earlier one of its key.
    """

    async def one() -> float:
        async with _child("relay", bench.url) as only:
            await _owns(only, PARTITIONS)
            return await _relayed(bench, count, [only])

    async def two() -> float:
        async with _child("relay", bench.url) as first, _child("relay", bench.url) as second:
            await asyncio.gather(_owns(first, PARTITIONS // 2), _owns(second, PARTITIONS // 2))
            return await _relayed(bench, count, [first, second])

    return await in_turns(one, two, rounds)


async def _owns(process: Process, partitions: int) -> None:
    while int(await _line(process)) != partitions:
        pass


async def _relayed(bench: Bench, count: int, relays: Sequence[Process]) -> float:
    await bench.fill(count)
    while await bench.waiting():  # noqa: ASYNC110 - other processes empty it
        await asyncio.sleep(0.05)
    seen: list[Seen] = []
    for process in relays:
        assert process.stdin is not None
        process.stdin.close()
    for process in relays:
        while not (line := await _line(process)).startswith("["):
            pass
        seen += [(at, key, name) for at, key, name in json.loads(line)]
    return taken(seen, count)


def taken(seen: Sequence[Seen], count: int) -> float:
    """Seconds for each of `count` messages, of which each was published, and those of a key in their order.

    Raises:
        Disorder: it was not so.
    """
    first: dict[str, Seen] = {}
    # By time alone: those of one batch stay in the order in which it was published.
    for one in sorted(seen, key=itemgetter(0)):
        first.setdefault(one[2], one)
    if len(first) != count:
        raise Disorder(f"{count} messages were stored and {len(first)} were published")
    last: dict[str, tuple[int, ...]] = {}
    for _, key, name in first.values():
        number = tuple(map(int, name.split("-")[1:]))
        if number < last.get(key, (-1,)):
            raise Disorder(f"{name} of key {key} was published after {last[key]}")
        last[key] = number
    times = [at for at, _, _ in first.values()]
    return (max(times) - min(times)) / count


async def memory(bench: Bench, marks: Sequence[int]) -> Mapping[int, int]:
    """Bytes that a process with relay and consumer has resident after so many messages."""
    await bench.fill(marks[-1])
    found: dict[int, int] = {}
    async with _child("flow", bench.url, *map(str, marks)) as process:
        for _ in marks:
            mark, resident = (await _line(process)).split()
            found[int(mark)] = int(resident)
    return found
