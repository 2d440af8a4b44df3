"""`StorageKit`: certifies a storage driver, clause by clause."""

from __future__ import annotations

from headrace.testing.conformance.storage_batches import BatchClauses
from headrace.testing.conformance.storage_deferred import DeferredClauses
from headrace.testing.conformance.storage_inbox import InboxClauses
from headrace.testing.conformance.storage_inspection import InspectionClauses
from headrace.testing.conformance.storage_leases import LeaseClauses
from headrace.testing.conformance.storage_life import LifeClauses
from headrace.testing.conformance.storage_outbox import OutboxClauses
from headrace.testing.conformance.storage_parked import ParkedClauses
from headrace.testing.conformance.storage_units import UnitClauses


class StorageKit(
    UnitClauses,
    OutboxClauses,
    InboxClauses,
    BatchClauses,
    ParkedClauses,
    DeferredClauses,
    InspectionClauses,
    LeaseClauses,
    LifeClauses,
):
    """What a `Storage` promises, a clause each.

    Subclass it in a test module and say how to make one:

        class TestMyStorage(StorageKit):
            async def make(self) -> Storage:
                return MyStorage(new_database())

            async def second(self, storage: Storage) -> Storage:
                return MyStorage(storage.database)

    Hooks: `make` (required), `second` (for `shareable`), `reopen` (for `durable`), `pass_seconds` (for a clock that can
    be set). pytest needs `asyncio_mode = "auto"`.

    Attributes:
        durable: what was committed survives; False takes the clauses about restarts out; default True.
        shareable: `second` makes another storage on the same data; default True.

    Source: "one suite, every driver", River's riverdrivertest and Watermill's pub/sub tests.
    """
