"""All readers of a broker: one for each group's partition that this process reads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from typing import TYPE_CHECKING, NamedTuple

from headrace.drivers.nats.reader import Reader, received
from headrace.errors import TopicNotFound

if TYPE_CHECKING:
    from headrace.broker import Received
    from headrace.drivers.nats.names import Names
    from headrace.drivers.nats.positions import Place
    from headrace.drivers.nats.topology import Log
    from headrace.wire import WireFormat


class Sought(NamedTuple):
    """A reader that is ready to give what is behind a position, and the stream that it reads."""

    partition: int
    reader: Reader
    log: Log


class Readers(dict["Place", Reader]):
    """By group, topic and partition.

    Args:
        names: of streams and subjects.
        buffer_messages: the most messages that each keeps.
        buffer_bytes: the most bytes that each asks for at once.
    """

    def __init__(self, names: Names, *, buffer_messages: int, buffer_bytes: int) -> None:
        super().__init__()
        self._names = names
        self._buffer_messages = buffer_messages
        self._buffer_bytes = buffer_bytes

    def of(self, place: Place, count: int, wake: Callable[[], None]) -> Reader:
        """The reader of a place; a new one if it has none.

        Args:
            place: what it reads.
            count: how many partitions the topic has.
            wake: called when there is something to read, or something to mend.

        Raises:
            TopicNotFound: the topic has no such partition.
        """
        _, topic, partition = place
        if not 0 <= partition < count:
            raise TopicNotFound(
                f"topic {topic!r} has {count} partitions and no partition {partition}"
            )
        found = self.get(place)
        if found is None:
            found = self[place] = Reader(
                self._names.stream(topic),
                self._names.subject(topic, partition),
                buffer_messages=self._buffer_messages,
                buffer_bytes=self._buffer_bytes,
                wake=wake,
            )
        return found

    async def stop(self, places: Iterable[Place]) -> None:
        """End the readers of these places, and forget them."""
        for place in places:
            reader = self.pop(place, None)
            if reader is not None:
                await reader.stop()


def taken(
    sought: MutableSequence[Sought], topic: str, limit: int, wire: WireFormat
) -> Sequence[Received]:
    """What these readers have, at most so many messages: shared evenly first; what one leaves goes to the others."""
    # Another partition comes first each time, so that none starves when there are more than the limit.
    random.shuffle(sought)
    found: list[Received] = []
    for number, (partition, reader, log) in enumerate(sought):
        share = -(-(limit - len(found)) // (len(sought) - number))
        found += [received(wire, topic, partition, log, each) for each in reader.take(share)]
    return found
