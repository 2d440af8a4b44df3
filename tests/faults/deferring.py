"""A process with an after-commit handler on one file, which is killed; or that does what another left.

    python -m tests.faults.deferring FOLDER MODE

MODE is "send": it sends a command and waits to be killed with its delivery stored and not begun; "die": its handler kills
the process in the middle of its work; "again": so does the handler of what was stored before; "finish": it lets all settle
and stops.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from headrace import Command, DomainEvent, Events, Headrace, Limits, Module
from headrace.drivers.sql import SqlStorage

METADATA = MetaData()
EFFECTS = Table(
    "effect", METADATA, Column("id", Integer, primary_key=True), Column("what", String(50))
)
LIMITS = Limits(lease_seconds=0.6, poll_seconds=0.05)


class Order(Command[None]):
    number: str


class Ordered(DomainEvent):
    number: str


class Mode(str):
    """What this process is for."""


async def order(request: Order, connection: AsyncConnection, events: Events) -> None:
    await connection.execute(insert(EFFECTS).values(what=f"ordered {request.number}"))
    events.append(Ordered(request.number))


async def mail(event: Ordered, connection: AsyncConnection, mode: Mode) -> None:
    await connection.execute(insert(EFFECTS).values(what=f"mailed {event.number}"))
    if mode in ("die", "again"):
        os.kill(os.getpid(), signal.SIGKILL)


def make_app(folder: Path, mode: str) -> Headrace:
    """The app; one that only sends runs no after-commit handlers."""
    module = Module("orders", providers=[Mode(mode)])
    module.bind(Order, order)
    module.bind(Ordered, mail, phase="after_commit")
    return Headrace(
        "orders",
        modules=[module],
        storage=SqlStorage(f"sqlite+aiosqlite:///{folder / 'app.db'}", metadata=METADATA),
        limits=LIMITS,
        roles={"send"} if mode == "send" else {"send", "consume"},
    )


async def run(folder: Path, mode: str) -> None:
    app = make_app(folder, mode)
    async with app:
        if mode in ("send", "die"):
            await app.send(Order(mode))
            print("committed", flush=True)
            await asyncio.Event().wait()
        await app.settle(30.0)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))
