"""`BrokerKit`: certifies a broker driver, clause by clause."""

from __future__ import annotations

from headrace.testing.conformance.broker_life import BrokerLifeClauses
from headrace.testing.conformance.broker_logs import LogClauses


class BrokerKit(LogClauses, BrokerLifeClauses):
    """What a `Broker` promises, a clause each.

    Subclass it in a test module and say how to make one:

        class TestMyBroker(BrokerKit):
            durable = False

            async def make(self) -> Broker:
                return MyBroker("localhost")

    Hooks: `make` (required), `storage` (for a broker that lives in one), `second` (for `shareable`), `reopen` (for
    `durable`). pytest needs `asyncio_mode = "auto"`.

    Attributes:
        durable: confirmed messages survive; False takes the clause about restarts out; default True.
        atomic_batch: a batch is stored as a whole or not at all; False takes its clause out; default True.
        max_body_bytes: the driver's limit for bodies; None, the default, takes its clause out.
        in_storage: True if it keeps its topics in the app's storage; default False.
        shareable: apps share topics; default True.

    Source: "one suite, every driver", Watermill's pub/sub tests.
    """
