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
    `durable`), `interrupt` (for `interruptible`). pytest needs `asyncio_mode = "auto"`.

    Attributes:
        durable: confirmed messages survive; False takes the clause about restarts out; default True.
        ordered_batch: whatever cuts a batch, it leaves no gaps; False takes its clause out; default True.
        retains: messages stay after a group has settled them; False takes a clause out; default True.
        remembers: the broker itself knows how far a group has settled; False takes a clause out; default True.
        max_body_bytes: the driver's limit for bodies; None, the default, takes its clause out.
        in_storage: True if it keeps its topics in the app's storage; default False.
        shareable: apps share topics; default True.
        serves_several: one object may be started by several apps; False takes a clause out; default True.
        interruptible: `interrupt` can cut its connections; default False, for brokers that have none.

    Source: "one suite, every driver", Watermill's pub/sub tests.
    """
