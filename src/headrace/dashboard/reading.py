"""Reads of the app's stored state that can neither hang a page nor take the database from the flow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from headrace.errors import HeadraceError, StorageBusy, StorageUnavailable
from headrace.telemetry import Logbook, LogEvent

T = TypeVar("T")

AT_ONCE: Final = 4
"""Reads of the dashboard that use the database at one time; the connections of the app are few."""

_LOG: Final = Logbook("headrace.dashboard")


class Unreadable(Exception):
    """What a page shows cannot be read now.

    Args:
        text: for the person: why.
    """


class Reader:
    """Runs reads, a few at a time, each within a time limit.

    Args:
        seconds: how long a page waits for all that it reads.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._room: asyncio.Semaphore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def read(self, reading: Callable[[], Awaitable[T]]) -> T:
        """The answer of a read.

        Raises:
            Unreadable: the database is away, busy or slow, the app is not running, or whatever else kept it from being read.
        """
        try:
            async with asyncio.timeout(self._seconds):
                async with self._place():
                    return await reading()
        except TimeoutError as error:
            if isinstance(error, HeadraceError):
                raise Unreadable(str(error)) from error
            raise Unreadable(
                f"The database has not answered within {self._seconds:g} seconds. It is slow or cannot be reached; this page "
                "has stopped waiting, and nothing of it runs on."
            ) from None
        except (StorageUnavailable, StorageBusy) as error:
            raise Unreadable(str(error)) from error
        except HeadraceError as error:
            _LOG.warning(LogEvent.DASHBOARD_UNREADABLE, f"The dashboard could not read: {error}")
            raise Unreadable(str(error)) from error
        except Exception as error:
            _LOG.error(LogEvent.DASHBOARD_UNREADABLE, "The dashboard could not read.", error)
            raise Unreadable(
                f"Reading ended with {type(error).__name__}; the log of this process has the traceback. The app itself runs on."
            ) from error

    def _place(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._room is None or self._loop is not loop:  # an app may be started again on another
            self._room, self._loop = asyncio.Semaphore(AT_ONCE), loop
        return self._room
