"""Ids and times of messages."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

_TAIL_BITS = 74  # what version 7 leaves beside 48 bits of milliseconds, the version and the variant
_LOW = (1 << 62) - 1
_BATCH = struct.Struct("512Q")  # a system call for every id would cost more than the rest


class _Ids:
    """The process's source of ids: two ids with one state must never meet, in whichever app, thread or fork."""

    __slots__ = ("_lock", "_millisecond", "_random", "_tail")

    def __init__(self) -> None:
        self._restart()
        os.register_at_fork(after_in_child=self._restart)

    def _restart(self) -> None:
        """Forget what a forked parent goes on using too."""
        self._lock = threading.Lock()
        self._random: list[int] = []
        self._millisecond = 0
        self._tail = 0

    def _draw(self) -> int:
        """64 random bits, none of them used before."""
        if not self._random:
            self._random.extend(_BATCH.unpack(os.urandom(_BATCH.size)))
        return self._random.pop()

    def _fresh_tail(self) -> int:
        # 73 random bits: the highest is room to count up within a millisecond.
        return self._draw() << 9 | self._draw() >> 55

    def next(self) -> int:
        millisecond = time.time_ns() // 1_000_000
        with self._lock:
            if millisecond > self._millisecond:
                self._millisecond = millisecond
                tail = (
                    self._draw() >> 7
                )  # 73 random bits: the highest is room to count up within a millisecond
            else:
                tail = self._tail + 1 + (self._draw() >> 32)
                if tail >> _TAIL_BITS:
                    self._millisecond += 1
                    tail = self._fresh_tail()
            self._tail = tail
            millisecond = self._millisecond
        return millisecond << 80 | 7 << 76 | (tail >> 62) << 64 | 0b10 << 62 | tail & _LOW


# The one state of a module in Headrace, as the random numbers of the standard library are: it belongs to the process.
_ids = _Ids()


def new_id() -> str:
    """A new UUIDv7, greater as text than every one that this process made before, also when the clock goes back.

    Safe in threads and after a fork.

    Source: RFC 9562, section 5.7 and "Monotonic Random" of section 6.2.
    """
    text = "%032x" % _ids.next()  # noqa: UP031 - a third faster than an f-string
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


ahead: ContextVar[Callable[[], float] | None] = ContextVar("headrace_ahead", default=None)
"""Answers by how many seconds the time of messages is ahead of the clock, under `headrace.testing.Harness`; None elsewhere."""


def now() -> str:
    """The time in UTC as RFC 3339 with microseconds, such as "2026-01-31T12:00:00.000000Z"."""
    at = datetime.now(UTC)
    seconds = ahead.get()
    if seconds is not None:
        at += timedelta(seconds=seconds())
    return at.isoformat(timespec="microseconds")[:-6] + "Z"
