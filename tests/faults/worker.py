"""A process that sends, relays and consumes until it is killed; or that finishes what others left.

    python -m tests.faults.worker FOLDER SEED NAME PACE [SEAM TIMES]

The folder says where it works: see `world`. It waits until it is told what to do. "go": its senders, with a mean pause of PACE
seconds between two commands, send until the process is killed, or told to stop by SIGTERM. "finish": nothing is sent, what
failed is healed, all settles, and the process stops. It prints a line at each step, so that whoever started it knows when to
kill it. With a SEAM it kills itself there, see `seams`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from headrace import Headrace, HeadraceError
from headrace.assembly.parts import OUTBOX_PARTITIONS
from headrace.errors import (
    BrokerUnavailable,
    CommitOutcomeUnknown,
    ProcessDied,
    StorageBusy,
    StorageUnavailable,
)
from tests.faults.app import Circumstances, Planned, Write, make_app
from tests.faults.plan import REFUSED, WITH_NESTED, fact_ids, nested_id
from tests.faults.plan import task as plan_of
from tests.faults.seams import arm
from tests.faults.world import World

LOG = logging.getLogger("tests.faults")
SENDERS = 4


class Answers:
    """What the clients were told, on a file that outlives the process: each line is one write at its end."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, mark: str, ids: Sequence[str]) -> None:
        os.write(self._file, f"{mark} {' '.join(ids)}\n".encode())


async def send_on(app: Headrace, seed: int, sender: str, pace: float, answers: Answers) -> None:
    """Send commands one after another, and write down what came back, until cancelled."""
    dice = random.Random(f"{seed}/sender/{sender}")
    number = 0
    while True:
        number += 1
        id_ = f"{sender}-{number}"
        plan = plan_of(seed, id_)
        ids = fact_ids(id_, plan)
        if plan.fate in WITH_NESTED:
            ids.append(f"{nested_id(id_)}.0")
        try:
            done = await app.send(Write(id_, plan.key, plan.facts, plan.fate, plan.nested_key))
        except Planned:
            if plan.fate not in REFUSED:
                raise
            answers.write("-", ids)
        except CommitOutcomeUnknown:
            answers.write("?", ids)
        except (HeadraceError, DBAPIError) as error:
            # Busy, unavailable, a deadlock of two commands: the promise is that nothing was committed.
            LOG.warning("the command %s was refused: %s", id_, error)
            answers.write("-", ids)
        else:
            answers.write("+", done)
            if undone := set(ids) - set(done):
                answers.write("-", sorted(undone))
        await asyncio.sleep(dice.expovariate(1 / pace))


async def redrive_on(app: Headrace, every_seconds: float = 0.3) -> None:
    """Let dead letters run again, now and then, until cancelled: in the middle of everything."""
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await app.dead_letters.redrive_all()
        except HeadraceError as error:
            LOG.warning("nothing was redriven: %s", error)


@contextlib.asynccontextmanager
async def started(app: Headrace) -> AsyncGenerator[None]:
    """The app, started as soon as its servers are there: what a supervisor would do."""
    while True:
        try:
            await app.start()
            break
        except (StorageUnavailable, StorageBusy, BrokerUnavailable) as error:
            LOG.warning("not started: %s", error)
            await asyncio.sleep(0.1)
    try:
        yield
    finally:
        await app.stop()


async def flow(app: Headrace, seed: int, name: str, pace: float, answers: Answers) -> None:
    """Send until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with started(app):
        say("running")
        work = [send_on(app, seed, f"{name}.{n}", pace, answers) for n in range(SENDERS)]
        tasks: list[asyncio.Future[object]] = [
            asyncio.ensure_future(one) for one in (*work, redrive_on(app), stop.wait())
        ]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()


async def finish(app: Headrace) -> None:
    """Settle, while dead letters are redriven, until nothing is left."""
    async with started(app):
        say("running")
        redriving = asyncio.ensure_future(redrive_on(app, 0.1))
        while True:
            await app.settle(600.0)
            if not await app.dead_letters.list():
                break
            await asyncio.wait({redriving}, timeout=0.05)
        redriving.cancel()
        # All may have settled before the leases of those that were killed have run out.
        while not await owns_all(app):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        say(f"counts {dict(app.telemetry.counts)}")


async def owns_all(app: Headrace) -> bool:
    """True if one process works all partitions of all queues, the outbox's among them, and it is this one."""
    status = await app.status()
    owners = {owner for one in status.ownership for owner in one.owners.values()}
    own = status.relay is not None and len(status.relay.partitions) == OUTBOX_PARTITIONS
    return own and len(owners) == 1 and None not in owners


def say(text: str) -> None:
    print(text, flush=True)


class Unexpected(logging.Handler):
    """Writes down every error that nobody planned: a test fails for it though all came right in the end."""

    def __init__(self, file: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = file

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # The libraries of clients call it an error when a server goes away, which it does here.
        ours = record.name.partition(".")[0] in ("headrace", "asyncio", "sqlalchemy", "tests")
        if ours and not isinstance(error, Planned | ProcessDied):
            with self._path.open("a") as file:
                file.write(f"{record.levelname} {record.getMessage()}\n")
                if record.exc_info:
                    file.write(logging.Formatter().formatException(record.exc_info) + "\n")


def main(
    folder: str, seed: str, name: str, pace: str, seam: str | None = None, times: str = "1"
) -> None:
    path = Path(folder)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message).300s")
    logging.getLogger().addHandler(Unexpected(path / "unexpected"))
    faulthandler.register(signal.SIGUSR1)  # a process that hangs tells where
    if seam is not None:
        arm(seam, int(times))
    circumstances = Circumstances(int(seed))
    app = make_app(World.of(path), circumstances)
    say("ready")
    circumstances.healed = sys.stdin.readline() == "finish\n"
    say("starting")
    if circumstances.healed:
        asyncio.run(finish(app))
    else:
        asyncio.run(flow(app, int(seed), name, float(pace), Answers(path / "answers")))
    say("stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
