"""A process that sends, relays and consumes on one file until it is killed; or that finishes what others left.

    python -m tests.faults.worker FOLDER SEED NAME PACE [SEAM TIMES]

PACE is the mean pause of each sender between two commands, in seconds: they send until the process is killed, or told to
stop by SIGTERM. With 0 nothing is sent: what failed is healed, all settles, and the process stops. It prints a line at each
step, so that whoever started it knows when to kill it. With a SEAM it kills itself there, see `seams`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from headrace import (
    Command,
    DomainEvent,
    EventHandler,
    EventMap,
    Headrace,
    HeadraceError,
    Limits,
    Module,
    NotificationEvent,
    RequestHandler,
    RequestMap,
    RequestMediator,
    Retry,
    Subscription,
)
from headrace.drivers.sql import SqlStorage
from headrace.errors import CommitOutcomeUnknown, ProcessDied
from tests.faults.plan import REFUSED, WITH_NESTED, Fate, Trouble, delivery, fact_ids, nested_id
from tests.faults.plan import Task as Plan
from tests.faults.plan import task as plan_of
from tests.faults.seams import arm
from tests.faults.tables import Base, Row, effect

LOG = logging.getLogger("tests.faults")
SENDERS = 4
LIMITS = Limits(lease_seconds=0.8, poll_seconds=0.05, drain_seconds=5.0)
RETRY = Retry(attempts=3, initial_seconds=0.02, factor=2.0)


class Planned(Exception):
    """A failure that the plan wants."""


class Write(Command[list[str]]):
    """Write facts. Answers the ids of all that this command and those nested in it have written."""

    id: str
    key: str
    facts: int
    fate: Fate
    nested_key: str


class Written(DomainEvent):
    id: str
    key: str
    number: int
    fate: Fate


class Announced(NotificationEvent, type="faults.announced.v1", topic="announced", key="key"):
    id: str
    key: str
    number: int


class Confirmed(NotificationEvent, type="faults.confirmed.v1", topic="confirmed", key="key"):
    """Raised by a consumer of `Announced`, so that a chain of two topics is tried."""

    id: str
    key: str
    number: int


class Circumstances:
    """What handlers need to know of the run."""

    def __init__(self, seed: int, *, healed: bool) -> None:
        self.seed = seed
        self.healed = healed
        self.attempts: Counter[str] = Counter()

    async def suffer(self, when: Trouble, stage: str, id_: str, key: str) -> None:
        """Fail or dawdle here, if the plan says so."""
        fate = delivery(self.seed, stage, id_, key)
        if fate.trouble is Trouble.SLOW and when is Trouble.AFTER:
            await asyncio.sleep(0.01)
        if fate.trouble is not when:
            return
        self.attempts[f"{stage}/{id_}"] += 1
        hopeless = fate.times is None and not self.healed
        if hopeless or self.attempts[f"{stage}/{id_}"] <= (fate.times or 0):
            raise Planned(f"{stage} {id_} {when}")


class WriteHandler(RequestHandler[Write, list[str]]):
    def __init__(self, session: AsyncSession, mediator: RequestMediator) -> None:
        self._session = session
        self._mediator = mediator

    async def handle(self, request: Write) -> list[str]:
        fate = request.fate
        if fate is Fate.REFUSED_BEFORE:
            raise Planned(f"{request.id} before")
        done = await self._nested(request) if fate in WITH_NESTED else []
        for id_ in fact_ids(request.id, _plan(request)):
            number = 1 + (
                await self._session.scalar(
                    select(func.coalesce(func.max(Row.number), 0)).where(Row.key == request.key)
                )
                or 0
            )
            self._session.add(Row(id=id_, key=request.key, number=number))
            await self._session.flush()
            self.events.append(Written(id_, request.key, number, fate))
            done.append(id_)
        if fate is Fate.SLOW:
            await asyncio.sleep(0.01)
        if fate is Fate.REFUSED_AFTER:
            raise Planned(f"{request.id} after")
        return done

    async def _nested(self, request: Write) -> list[str]:
        fate = Fate.GOOD if request.fate is Fate.NESTED else Fate.REFUSED_AFTER
        if request.fate is Fate.NESTED_UNDONE and request.facts > 1:
            fate = Fate.REFUSED_IN_EVENT
        inner = Write(nested_id(request.id), request.nested_key, 1, fate, request.key)
        try:
            return await self._mediator.send(inner, savepoint=request.fate is Fate.NESTED_UNDONE)
        except Planned:
            return []


def _plan(request: Write) -> Plan:
    return Plan(request.key, request.facts, request.fate, request.nested_key)


class Announce(EventHandler[Written]):
    async def handle(self, event: Written) -> None:
        if event.fate is Fate.REFUSED_IN_EVENT:
            raise Planned(f"{event.id} in the event handler")
        self.events.append(Announced(event.id, event.key, event.number))


class Record(EventHandler[Announced]):
    """The effect of a fact, and the next link of the chain."""

    def __init__(self, connection: AsyncConnection, circumstances: Circumstances) -> None:
        self._connection = connection
        self._circumstances = circumstances

    async def handle(self, event: Announced) -> None:
        suffer = self._circumstances.suffer
        await suffer(Trouble.BEFORE, "announced", event.id, event.key)
        await self._connection.execute(
            insert(effect).values(
                stage="announced", id=event.id, key=event.key, number=event.number
            )
        )
        self.events.append(Confirmed(event.id, event.key, event.number))
        await suffer(Trouble.AFTER, "announced", event.id, event.key)


class Mirror(EventHandler[Announced]):
    """The effect of the same fact in another group."""

    def __init__(self, session: AsyncSession, circumstances: Circumstances) -> None:
        self._session = session
        self._circumstances = circumstances

    async def handle(self, event: Announced) -> None:
        suffer = self._circumstances.suffer
        await suffer(Trouble.BEFORE, "mirrored", event.id, event.key)
        await self._session.execute(
            insert(effect).values(stage="mirrored", id=event.id, key=event.key, number=event.number)
        )
        await suffer(Trouble.AFTER, "mirrored", event.id, event.key)


class Close(EventHandler[Confirmed]):
    """The effect at the end of the chain."""

    def __init__(self, connection: AsyncConnection, circumstances: Circumstances) -> None:
        self._connection = connection
        self._circumstances = circumstances

    async def handle(self, event: Confirmed) -> None:
        suffer = self._circumstances.suffer
        await suffer(Trouble.BEFORE, "confirmed", event.id, event.key)
        await self._connection.execute(
            insert(effect).values(
                stage="confirmed", id=event.id, key=event.key, number=event.number
            )
        )
        await suffer(Trouble.AFTER, "confirmed", event.id, event.key)


def make_app(file: Path, circumstances: Circumstances) -> Headrace:
    """The app that flows."""
    requests, events = RequestMap(), EventMap()
    requests.bind(Write, WriteHandler)
    events.bind(Written, Announce)
    events.bind(Announced, Record)
    events.bind(Confirmed, Close)
    mirror = Module("mirror", subscriptions=[Subscription(group="mirror", retry=RETRY)])
    mirror.bind(Announced, Mirror)
    return Headrace(
        "faults",
        requests=requests,
        events=events,
        modules=[mirror],
        providers=[circumstances],
        storage=SqlStorage(f"sqlite+aiosqlite:///{file}", metadata=Base.metadata),
        broker="sql://",
        subscriptions=[Subscription(retry=RETRY)],
        limits=LIMITS,
    )


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
        except HeadraceError as error:
            # Busy or unavailable: the promise is that nothing was committed.
            LOG.warning("the command %s was refused: %s", id_, error)
            answers.write("-", ids)
        else:
            answers.write("+", done)
            if undone := set(ids) - set(done):
                answers.write("-", sorted(undone))
        await asyncio.sleep(dice.expovariate(1 / pace))


async def redrive_on(app: Headrace) -> None:
    """Let dead letters run again, now and then, until cancelled: in the middle of everything."""
    while True:
        await asyncio.sleep(0.3)
        try:
            await app.dead_letters.redrive_all()
        except HeadraceError as error:
            LOG.warning("nothing was redriven: %s", error)


async def flow(app: Headrace, seed: int, name: str, pace: float, answers: Answers) -> None:
    """Send until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with app:
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
    async with app:
        say("running")
        redriving = asyncio.ensure_future(redrive_on(app))
        while True:
            await app.settle(600.0)
            if not await app.dead_letters.list():
                break
            await asyncio.wait({redriving}, timeout=0.05)
        redriving.cancel()
        say(f"counts {dict(app.telemetry.counts)}")


def say(text: str) -> None:
    print(text, flush=True)


class Unexpected(logging.Handler):
    """Writes down every error that nobody planned: a test fails for it though all came right in the end."""

    def __init__(self, file: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = file

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, Planned | ProcessDied):
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
    seconds = float(pace)
    if seam is not None:
        arm(seam, int(times))
    app = make_app(path / "app.db", Circumstances(int(seed), healed=seconds == 0))
    say("ready")
    sys.stdin.readline()
    say("starting")
    if seconds == 0:
        asyncio.run(finish(app))
    else:
        asyncio.run(flow(app, int(seed), name, seconds, Answers(path / "answers")))
    say("stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
