"""Notices between processes that a queue or topic has something new: hints that save a poll, never relied on."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import text
from sqlalchemy.util.concurrency import greenlet_spawn

from headrace.backoff import Backoff
from headrace.drivers.sql.steps import Step

if TYPE_CHECKING:
    from headrace.drivers.listeners import Listeners
    from headrace.drivers.sql.database import Closes, Database

CHANNEL: Final = "headrace"

GATHER_SECONDS: Final = 0.02
"""At most one notice of a name in this time: a NOTIFY takes a lock that all who notify share while they commit. (Measured on
16 connections: 10 300 commits a second without a NOTIFY in each, 4 200 with.)"""

# A NOTIFY is a commit, for which senders would wait in the queue to the disk; one that a crash loses costs a poll.
_notify: Final = text(
    f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{CHANNEL}', said)"
    " FROM unnest(CAST(:notices AS text[])) AS said"
)


class Notices:
    """Tells other processes what is new, and hears it from them. Sends and hears in the background.

    Args:
        database: its dialect says whether it has notices at all.
        listeners: who is to be woken in this process.
    """

    def __init__(self, database: Database, listeners: Listeners[str]) -> None:
        self._database = database
        self._listeners = listeners
        self._self = uuid.uuid4().hex
        self._pending: set[str] = set()
        self._sender: asyncio.Task[None] | None = None
        self._hearer: asyncio.Task[None] | None = None
        self._closed = False
        self._lost = False
        self.hearing = asyncio.Event()
        """Set while the connection that hears is there."""
        self.failed = 0
        """How often notices could not be sent, or the connection that hears them was lost."""

    def tell(self, name: str) -> None:
        """Tell other processes soon. Does no I/O and never fails."""
        if self._database.dialect.hear is None or self._closed:
            return
        self._pending.add(name)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send())

    def hear(self) -> None:
        """Wake this process's listeners when another process tells, from now until `close`."""
        if self._database.dialect.hear is not None and self._hearer is None and not self._closed:
            self._hearer = asyncio.get_running_loop().create_task(self._hear())

    async def close(self) -> None:
        """Send what is pending, then stop hearing."""
        self._closed = True
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=1.0)
        for task in (self._sender, self._hearer):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.gather(task)
        self._sender = self._hearer = None

    async def _send(self) -> None:
        # The first goes at once; what comes while it is under way and shortly after goes together.
        while self._pending:
            said = [f"{self._self} {name}" for name in sorted(self._pending)]
            self._pending.clear()
            try:
                await self._database.tell(Step(_notify, {"notices": said}))
            except Exception:  # a hint that is lost costs one poll
                self.failed += 1
            if not self._closed:
                await asyncio.sleep(GATHER_SECONDS)

    async def _hear(self) -> None:
        backoff = Backoff()
        while True:
            with suppress(Exception):
                await self._hear_once(backoff)
            self.failed += 1
            self._lost = True
            self.hearing.clear()
            await asyncio.sleep(backoff.next())

    async def _hear_once(self, backoff: Backoff) -> None:
        hear = self._database.dialect.hear
        if hear is None:
            return
        connection = await greenlet_spawn(self._database.connect)
        driver: object = connection.connection.driver_connection
        try:
            # It stays taken, so the pool is to have another in its place.
            connection.detach()

            def began() -> None:
                backoff.reset()
                if self._lost:
                    # What was told while nobody heard.
                    self._listeners.wake_all()
                self._lost = False
                self.hearing.set()

            await hear(driver, CHANNEL, began, self._heard)
        finally:
            await self._database.close_taken(connection, cast("Closes", driver))

    def _heard(self, said: str) -> None:
        by, _, name = said.partition(" ")
        if by != self._self:
            self._listeners.wake((name,))


def topic_name(topic: str) -> str:
    """The name under which a topic's news are told, beside those of queues."""
    return f"topic:{topic}"
