"""One topic of the memory broker: partitioned logs, and how far each group has settled them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from headrace.broker import Received, partition_of
from headrace.envelope import Message
from headrace.errors import TopicMismatch


class _Log:
    """Messages numbered without gaps from `first`; `end` is the next number."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.messages: dict[int, Message] = {}

    @property
    def end(self) -> int:
        return self.first + len(self.messages)

    def forget_to(self, position: int) -> int:
        """Drop all up to the position. Returns how many."""
        count = max(0, min(position + 1, self.end) - self.first)
        for _ in range(count):
            del self.messages[self.first]
            self.first += 1
        return count


class TopicLog:
    """A topic: `size` messages in all.

    Args:
        name: for errors.
        partitions: how many logs.
        first: the number of the first message of each log.
    """

    def __init__(self, name: str, partitions: int, first: int) -> None:
        self.name = name
        self.size = 0
        self._first = first
        self._logs = [_Log(first) for _ in range(partitions)]
        self._settled: dict[str, dict[int, int]] = {}

    @property
    def partitions(self) -> int:
        """How many partitions the topic was declared with."""
        return len(self._logs)

    def append(self, messages: Sequence[Message]) -> None:
        """Store messages, in this order."""
        for message in messages:
            log = self._logs[partition_of(message, len(self._logs))]
            log.messages[log.end] = message
        self.size += len(messages)

    def read(self, group: str, after: Mapping[int, str | None], limit: int) -> list[Received]:
        """See `Broker.read`. Partitions take turns, so that a long one leaves room for the others."""
        found: list[Received] = []
        turns = deque(self._behind(group, partition, at) for partition, at in after.items())
        while turns and len(found) < limit:
            turn = turns.popleft()
            received = next(turn, None)
            if received is not None:
                found.append(received)
                turns.append(turn)
        return found

    def _behind(self, group: str, partition: int, position: str | None) -> Iterator[Received]:
        log = self._log(partition)
        for number in range(self._next(group, partition, position), log.end):
            yield Received(partition, str(number), log.messages[number])

    def search(self, wanted: Callable[[Message], bool], limit: int) -> list[Received]:
        """The latest messages of each partition that are wanted, in order."""
        found: list[Received] = []
        for partition, log in enumerate(self._logs):
            numbers = [n for n, message in log.messages.items() if wanted(message)]
            found += [Received(partition, str(n), log.messages[n]) for n in numbers[-limit:]]
        return found

    def backlog(self, group: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`."""
        return sum(
            max(0, self._log(partition).end - self._next(group, partition, position))
            for partition, position in after.items()
        )

    def _next(self, group: str, partition: int, position: str | None) -> int:
        """The number behind a position; without one behind what the group has settled."""
        first = self._log(partition).first
        if position is not None:
            return max(first, int(position) + 1)
        return max(first, self._settled.get(group, {}).get(partition, 0) + 1)

    def settle(self, group: str, positions: Mapping[int, str]) -> None:
        """Note that the group has finished all up to these positions; it is known from now on."""
        settled = self._settled.setdefault(group, {})
        for partition, position in positions.items():
            self._log(partition)
            settled[partition] = max(settled.get(partition, 0), int(position))

    def make_room(self) -> None:
        """Forget what every known group has settled; with no group known, nothing."""
        for partition, log in enumerate(self._logs):
            done = [settled.get(partition, 0) for settled in self._settled.values()]
            self.size -= log.forget_to(min(done, default=0))

    def _log(self, partition: int) -> _Log:
        if not 0 <= partition < len(self._logs):
            raise TopicMismatch(
                f"topic {self.name!r} has the partitions 0 to {len(self._logs) - 1}, and {partition} was asked for:"
                " read the count with `await broker.partitions(topic)`"
            )
        return self._logs[partition]
