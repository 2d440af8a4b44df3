"""Storages on which state machines run: each with a way to let time pass, and one loop for all its steps."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine

from headrace.drivers.memory import MemoryDatabase, MemoryStorage
from headrace.drivers.sql import SqlStorage
from headrace.storage import Storage

T = TypeVar("T")
APP = "app"
PARTITIONS = 2


class World(Protocol):
    """One storage, and its clock."""

    storage: Storage

    def advance(self, seconds: float) -> None:
        """Let time pass for the storage."""

    def close(self) -> None:
        """Remove what is left of it."""


class MemoryWorld:
    def __init__(self) -> None:
        self._now = 1_700_000_000.0
        self.storage: Storage = MemoryStorage(MemoryDatabase(clock=lambda: self._now))

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def close(self) -> None:
        pass


class SqlWorld:
    """SQLite in a file. Its clock cannot be set, so all that is stored gets older instead."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / "app.db"
        self.storage: Storage = SqlStorage(f"sqlite+aiosqlite:///{self._file}", synchronous="OFF")

    def advance(self, seconds: float) -> None:
        columns = {
            "headrace_queue": ("due_at_ms", "created_at_ms"),
            "headrace_lease": ("expires_at_ms",),
            "headrace_owner": ("expires_at_ms",),
            "headrace_inbox": ("handled_at_ms",),
        }
        with contextlib.closing(sqlite3.connect(self._file)) as connection, connection:
            for table, names in columns.items():
                for name in names:
                    connection.execute(
                        f"UPDATE {table} SET {name} = {name} - ?",
                        (round(seconds * 1000),),
                    )

    def close(self) -> None:
        self._folder.cleanup()


class Machine(RuleBasedStateMachine):
    """A state machine on a storage. Subclasses write rules; `world` says on which storage."""

    world: type[World] = MemoryWorld

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.here = self.world()
        self.storage = self.here.storage
        self.run(self.storage.start(APP, partitions=PARTITIONS))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        self.run(self.end())
        self.runner.close()
        self.here.close()

    async def end(self) -> None:
        """Stop the storage; a machine with open transactions ends them first."""
        await self.storage.stop()


def on_sql(machine: type[Machine]) -> Any:
    """The machine's test case on SQLite: fewer examples, for each makes a file."""
    case = type(f"{machine.__name__}OnSql", (machine,), {"world": SqlWorld}).TestCase  # type: ignore[attr-defined]
    case.settings = settings(max_examples=15, stateful_step_count=25)
    return case


def in_memory(machine: type[Machine]) -> Any:
    """The machine's test case in memory."""
    case = machine.TestCase
    case.settings = settings(max_examples=100, stateful_step_count=40)
    return case
