"""What is the same for every message that a group handles: one try, and whose fault it is when it fails (G9)."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec.structs import replace

from headrace.consumer.turns import TimeLimit, Turns
from headrace.errors import HandlerCancelled, HandlerTimeout
from headrace.storage import Failure
from headrace.subscriptions import qualified_name
from headrace.telemetry import about
from headrace.text import keepable, said_by
from headrace.worker import cancelled, infrastructure

if TYPE_CHECKING:
    from headrace.codec import Codec
    from headrace.consumer.clashes import Clashes
    from headrace.consumer.dedup_window import DedupWindow
    from headrace.envelope import Message
    from headrace.storage import Storage, Transaction
    from headrace.subscriptions import Subscription
    from headrace.telemetry import Count, Labels, Telemetry

T = TypeVar("T")

Delivery = tuple[object, "Message"]
"""A decoded event and its message as it was received."""

UNKNOWN_TYPE_SECONDS = 5.0
"""How long a message waits for a process that knows its type: a rolling deploy takes longer, a look costs little."""

UNKNOWN = "headrace.UnknownType"
"""The error by which a message waits for a process that knows it."""

UNKNOWN_TYPE_AGAIN_SECONDS = 30.0
"""How long it waits the next times: a handler that was removed for good may leave many messages, each a write a look."""

_TYPE_CHARACTERS = 200
_MESSAGE_CHARACTERS = 2_000
_TRACEBACK_CHARACTERS = 20_000


class Deliver(Protocol):
    """Runs the handlers of messages as one unit of work: the seam to the mediator."""

    def __call__(
        self, begin: Callable[[Transaction], Awaitable[Iterable[Delivery]]], /
    ) -> Awaitable[None]:
        """Handle messages, each in the context of its envelope, in one transaction.

        Opens a unit of work with a new transaction of the storage and calls `begin` with it first. Then takes what that
        answered one after another, the next when the one before has ended: runs all handlers of the event's type in the
        group and what follows from them, with a scope and session of their own. Then commits all. The COMMIT is not cut
        by a cancellation.

        Args:
            begin: stages the consumer's own writes and answers what is to be handled, in order; perhaps nothing.

        Raises:
            Exception: any error, unwrapped, after all was rolled back.
        """
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What one group does with the messages of one topic.

    Args:
        subscription: its settings.
        group: the group's name.
        topic: the topic.
        queue: the name of its leases and parked messages.
        storage: where they are.
        deliver: runs the handlers.
        types: the event classes by type literal that this process has handlers for in the group.
        codec: reads bodies.
        telemetry: the app's.
        slots: bounds the handlers that run at once in all topics of the subscription.
        clashes: lets its batches take turns when they lock each other out.
        window: looks for messages that are older than the inbox remembers; default None: nobody looks.
        system: where the messages come from, for spans and metrics; default: from storage.
    """

    subscription: Subscription
    group: str
    topic: str
    queue: str
    storage: Storage
    deliver: Deliver
    types: Mapping[str, type[object]]
    codec: Codec
    telemetry: Telemetry
    slots: asyncio.Semaphore
    clashes: Clashes
    window: DedupWindow | None = field(default=None, kw_only=True)
    system: str = field(default="headrace", kw_only=True)
    _cells: dict[tuple[Count, str, str], list[int]] = field(init=False, repr=False, compare=False)
    _limit: TimeLimit = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cells", {})
        object.__setattr__(self, "_limit", TimeLimit(self.subscription.timeout_seconds))

    @property
    def title(self) -> str:
        """Whose work it is, as the subject of a sentence."""
        return f"Group {self.group!r} on topic {self.topic!r}"

    @property
    def labels(self) -> Labels:
        """Whose work it is, for counts."""
        return (("group", self.group), ("topic", self.topic))

    def labels_of(self, message: Message) -> Labels:
        """What a message that this process knows is, for counts; never an id or a key."""
        return (("group", self.group), ("topic", self.topic), ("type", message.envelope.type))

    def count(self, what: Count, message: Message) -> None:
        """Count what became of a message. Each message is counted, so labels are made once for all that share them."""
        kind = (what, message.topic, message.envelope.type)
        cell = self._cells.get(kind)
        if cell is None:
            cell = self._cells[kind] = self.telemetry.cell(what, self.labels_of(message))
        cell[0] += 1

    def fields_of(self, message: Message) -> dict[str, str]:
        """What a message is, for log records."""
        return {"group": self.group, "topic": self.topic, **about(message.envelope)}

    def called(self, message: Message) -> str:
        """A message in a log record, as the subject of a sentence."""
        return f"Message {message.envelope.id} of topic {self.topic!r} in group {self.group!r}"

    def knows(self, message: Message) -> bool:
        """True if this process has a handler for it."""
        return message.envelope.type in self.types

    def unknown(self, message: Message) -> Failure:
        """Why a message waits that this process does not know (G14)."""
        return Failure(
            UNKNOWN,
            f"Group {self.group!r} has had handlers for {message.envelope.type!r}, but the process that read the message has "
            "none. It waits for one that has (a rolling deploy). If the handler was removed for good, bind one that does "
            "nothing.",
        )

    def in_lane(self, message: Message) -> Message:
        """The message as the storage is to see it: without its key if the subscription keeps no order.

        The envelope keeps the key, so nothing is lost on the wire or for people.
        """
        return message if self.subscription.ordered else replace(message, key=None)

    def keyed(self, message: Message) -> Message:
        """The message as it was received: the opposite of `in_lane`."""
        return (
            message
            if self.subscription.ordered
            else replace(message, key=message.envelope.partitionkey)
        )

    def decode(self, message: Message) -> object:
        """The event of a message whose type is in `types`.

        Raises:
            Exception: the body does not fit; most often `DecodeError`.
        """
        return self.codec.decode(message.data, self.types[message.envelope.type])

    async def attempt(
        self, begin: Callable[[Transaction], Awaitable[Sequence[Delivery]]]
    ) -> Exception | None:
        """Try messages once, together.

        Args:
            begin: stages the consumer's own writes and answers what is to be handled, in order.

        Returns:
            The error of a handler, which counts as an attempt, or None.

        Raises:
            Exception: an error of the infrastructure, which counts for nothing.
        """
        turns = Turns(self._limit)

        async def begun(transaction: Transaction) -> Iterable[Delivery]:
            return turns.of(await begin(transaction))

        async with self.slots:
            try:
                async with turns:
                    await self.deliver(begun)
            except asyncio.CancelledError as error:
                if cancelled(error) or turns.running is None:
                    raise
                return self._ended_as_cancelled(turns.running, error)
            except Exception as error:
                # First, because a driver whose statement was cut by the time-out reports a lost connection.
                if turns.expired and turns.running is not None:
                    return self._late(turns.running, error)
                if infrastructure(self.storage, error):
                    raise
                return error
        return None

    def _ended_as_cancelled(
        self, message: Message, error: asyncio.CancelledError
    ) -> HandlerCancelled:
        ended = HandlerCancelled(
            f"The handlers of {message.envelope.type} in group {self.group!r} ended with CancelledError, and nobody had "
            f"cancelled them (message {message.envelope.id}). Something that they awaited was cancelled elsewhere: catch that in "
            "the handler, and raise an error that says what happened."
        )
        ended.__cause__ = error
        return ended

    def _late(self, message: Message, error: Exception) -> HandlerTimeout:
        late = HandlerTimeout(
            f"The handlers of {message.envelope.type} in group {self.group!r} did not end within "
            f"{self.subscription.timeout_seconds:g} seconds (message {message.envelope.id}). Make them faster, or raise "
            "Subscription(timeout_seconds=...)."
        )
        late.__cause__ = error
        return late


def failure_of(error: BaseException) -> Failure:
    """An error as storage keeps it for people."""
    text = keepable("".join(traceback.format_exception(error)))
    # The end of a traceback tells where it happened.
    return Failure(
        keepable(qualified_name(type(error)))[:_TYPE_CHARACTERS],
        said_by(error)[:_MESSAGE_CHARACTERS],
        text[-_TRACEBACK_CHARACTERS:],
    )


async def in_transaction(storage: Storage, body: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run `body` in a transaction of its own. A cancellation never cuts the commit; it is raised after it."""
    transaction = storage.transaction()
    try:
        answer = await body(transaction)
    except BaseException:
        await transaction.rollback()
        raise
    commit = asyncio.ensure_future(transaction.commit())
    try:
        await asyncio.shield(commit)
    except asyncio.CancelledError:
        await asyncio.wait({commit})
        if not commit.cancelled():
            # Looked at, or asyncio complains: whether it succeeded, the redelivered message finds out by the inbox.
            commit.exception()
        raise
    return answer
