"""One producer of the client library and the thread that takes its confirmations."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.drivers.kafka.settings import LOGGER, Settings
from headrace.errors import ConfigurationError

if TYPE_CHECKING:
    from confluent_kafka import Message as Record

_POLL_SECONDS: Final = 0.1
_DRAIN_SECONDS: Final = 1.0

Place = tuple[str, int]
"""A partition of a topic, by its name on the servers."""


class Delivery:
    """A record that was handed to the producer: first under way, then confirmed or failed."""

    __slots__ = ("done", "error", "identity", "waiters")

    def __init__(self, identity: object) -> None:
        self.identity = identity
        self.done = False
        self.error: KafkaError | None = None
        self.waiters: tuple[Waiter, ...] = ()


class Waiter:
    """Waits for several deliveries at once: one wake-up for a whole batch."""

    __slots__ = ("_future", "_left")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()
        self._left = 0

    def add(self, delivery: Delivery) -> None:
        """Wait for this one too."""
        if not delivery.done and self not in delivery.waiters:
            delivery.waiters += (self,)
            self._left += 1

    def one_done(self) -> None:
        """A delivery has ended."""
        self._left -= 1
        if self._left <= 0 and not self._future.done():
            self._future.set_result(None)

    async def wait(self, until: float) -> None:
        """Until all have ended, at most until this time of the loop's clock."""
        if self._left > 0:
            loop = asyncio.get_running_loop()
            await asyncio.wait([self._future], timeout=max(0.0, until - loop.time()))


class Sender:
    """Hands records over without waiting; a thread of its own collects the confirmations and brings them in bulk.

    After a fatal error it ends by itself: every delivery that was under way fails, and `dead` is true.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._finished: list[tuple[Delivery, KafkaError | None]] = []
        self._closing = threading.Event()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._producer: Producer | None = None
        self._thread = threading.Thread(
            target=self._run, name="headrace kafka producer", daemon=True
        )
        self.under_way: dict[object, Delivery] = {}
        """Deliveries that have not ended, by the identity of their message."""
        self.room = asyncio.Event()
        """Set when some delivery has ended, so that a full queue may have room again."""
        self.dead = False
        self.too_old = False
        """The servers do not know idempotent producers."""
        self.last_error: KafkaError | None = None

    async def open(self) -> None:
        """Make the producer, which connects by itself.

        Raises:
            ConfigurationError: the client library refuses a setting.
        """
        self._thread.start()
        await asyncio.shield(self._started)

    def send(
        self,
        identity: object,
        place: Place,
        key: str | None,
        body: bytes,
        headers: dict[str, str],
    ) -> Delivery:
        """Hand a record over.

        Raises:
            BufferError: the queue is full.
            KafkaException: this record, or any, is not accepted.
        """
        if self.dead or self._producer is None:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        delivery = Delivery(identity)
        finished = self._finished

        def ended(error: KafkaError | None, _record: Record) -> None:
            finished.append((delivery, error))

        self._producer.produce(
            place[0],
            value=body,
            key=key,
            partition=place[1],
            on_delivery=ended,
            headers=headers,  # type: ignore[arg-type]  # invariant in the stub; text values are accepted
        )
        self.under_way[identity] = delivery
        return delivery

    async def close(self) -> None:
        """Give up what is under way and end the thread. Idempotent."""
        self.dead = True
        self._closing.set()
        if self._thread.ident is not None:
            await self._ended.wait()
            self._thread.join()

    def _run(self) -> None:
        try:
            producer = self._producer = self._make()
        except KafkaException as error:
            self._tell(self._refused, error)
            self._tell(self._ended.set)
            return
        self._tell(self._opened)
        while not self._closing.is_set():
            try:
                producer.poll(_POLL_SECONDS)
            except Exception as error:
                # Fatal. Whatever is still under way has no known end: the publisher begins again with the oldest.
                self._tell(self._died, _cause(error))
                break
            self._deliver()
        self._give_up(producer)
        self._tell(self._ended.set)

    def _make(self) -> Producer:
        return Producer({**self._settings.producer(), "error_cb": self._noted}, logger=LOGGER)

    def _give_up(self, producer: Producer) -> None:
        until = time.monotonic() + _DRAIN_SECONDS
        # Errors of single records that are known already say which one was to blame, so they are taken first.
        _quietly(lambda: producer.poll(0.0))
        while len(producer) and time.monotonic() < until:
            _quietly(producer.purge)
            _quietly(lambda: producer.poll(0.02))
        self._deliver()
        _quietly(producer.close)
        self._deliver()
        self._tell(self._abandon)

    def _deliver(self) -> None:
        if self._finished:
            # The list stays the same object, which the callbacks of deliveries under way hold. Only this thread appends.
            finished = self._finished[:]
            self._finished.clear()
            self._tell(self._take, finished)

    def _take(self, finished: list[tuple[Delivery, KafkaError | None]]) -> None:
        under_way = self.under_way
        for delivery, error in finished:
            delivery.done = True
            delivery.error = error
            if under_way.get(delivery.identity) is delivery:
                del under_way[delivery.identity]
            for waiter in delivery.waiters:
                waiter.one_done()
        self.room.set()

    def _abandon(self) -> None:
        """Whatever has not ended by now never will."""
        purged = KafkaError(KafkaError._PURGE_INFLIGHT)
        self._take([(delivery, purged) for delivery in self.under_way.values()])

    def _opened(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    def _refused(self, error: KafkaException) -> None:
        self.dead = True
        if not self._started.done():
            self._started.set_exception(
                ConfigurationError(
                    f"KafkaBroker: the Kafka client refuses its settings: {_cause(error).str()}."
                )
            )

    def _died(self, error: KafkaError) -> None:
        self.dead = True
        self.last_error = error
        self.too_old = error.code() == KafkaError._UNSUPPORTED_FEATURE

    def _noted(self, error: KafkaError) -> None:
        # "All brokers are down" follows from others and says less than they.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last_error = error

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            # The loop was closed under a broker that nobody stopped: there is nobody to tell.
            self._closing.set()


def _cause(error: Exception) -> KafkaError:
    found = error.args[0] if error.args else None
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


def _quietly(step: Callable[[], object]) -> None:
    """A producer that has failed says so at every call; what counts is that its records come back."""
    try:
        step()
    except KafkaException:
        pass
