"""The outboxes of others on the same PostgreSQL, each in an environment of its own: how fast they relay to nobody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.peers.environment import Peer, PeerFailed, run_in
from benchmarks.storage.databases import Bench

RIVALS: Final = (
    Peer(
        "python-cqrs",
        "5.3.0",
        "outbox_python_cqrs",
        ("sqlalchemy[asyncio]==2.0.*", "asyncpg", "pydantic==2.*"),
    ),
    Peer("txoutbox", "0.2.2", "outbox_txoutbox", ("asyncpg",)),
    Peer("faststream-outbox", "0.19.0", "outbox_faststream", ("asyncpg",)),
)


@dataclass(frozen=True, slots=True)
class RivalResult:
    """What came of a rival.

    Args:
        peer: which.
        seconds: for each message, a number for each round; empty if it failed.
        failed: why there is no figure.
    """

    peer: Peer
    seconds: Sequence[float] = ()
    failed: str | None = None


async def measure(bench: Bench, count: int, rounds: int = 3) -> Sequence[RivalResult]:
    """Let each relay so many messages of 1 KiB, after a first round that warms up."""
    found: list[RivalResult] = []
    for rival in RIVALS:
        try:
            answer = await run_in(rival, bench.url, str(count), str(rounds))
        except PeerFailed as failed:
            found.append(RivalResult(rival, failed=str(failed)))
        else:
            found.append(RivalResult(rival, json.loads(answer.splitlines()[-1])))
    return found
