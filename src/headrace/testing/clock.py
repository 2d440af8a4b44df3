"""Virtual time: the tests of an app go on in days, the processes that run it in milliseconds.

Nothing waits: what is stored becomes older. A due time that lies three days ahead is moved to now, and with it every other
time that the flow goes by. So no driver knows of virtual time, and leases, which are about processes, stay in real time.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from headrace.drivers.memory import MemoryStorage
from headrace.storage import Storage


class VirtualClock:
    """How far the time of a test is ahead of the computer's."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0
        self._over = True

    def begin(self) -> None:
        """The test begins."""
        self._over = False

    def ahead(self) -> float:
        """The seconds, for `headrace.ids.ahead`; none once the test is over, whoever still asks."""
        return 0.0 if self._over else self.ahead_seconds

    def end(self) -> None:
        """The test is over: ids that are made from now on have the computer's time. `now` stays as it is."""
        self._over = True

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead_seconds)

    async def move(self, storage: Storage, seconds: float) -> None:
        """Go on in time, over what the storage keeps. Whole milliseconds, rounded up, so that what is due has come due."""
        seconds = math.ceil(seconds * 1000) / 1000
        if seconds > 0:
            await _age(storage, seconds)
            self.ahead_seconds += seconds


async def _age(storage: Storage, seconds: float) -> None:
    if isinstance(storage, MemoryStorage):
        storage.database.age(seconds)
        return
    from headrace.drivers.sql import SqlStorage
    from headrace.drivers.sql.ageing import age

    if isinstance(storage, SqlStorage):
        await age(storage.database, seconds)
