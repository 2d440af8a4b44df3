"""Dead letters: look at them, run them again, or give them up with a reason (G9). Of the outbox and of groups alike.

Source: "Dead Letter Channel", Enterprise Integration Patterns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import ConfigurationError
from headrace.storage import Failure, group_queue
from headrace.telemetry import Count

if TYPE_CHECKING:
    from headrace.envelope import Envelope
    from headrace.storage import Storage, Stored
    from headrace.telemetry import Telemetry

PAGE = 100
"""Dead letters that one query reads: bodies may be large, and people look at few."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody tries any more until somebody decides.

    Args:
        position: its number; `redrive` and `drop` take it.
        queue: where it stands: `outbox:<app>`, `group:<group>/<topic>` or `after:<app>`.
        group: the group that could not handle it; None if the relay could not publish it, or an after-commit handler could not
            handle it.
        topic: its topic; of a delivery to an after-commit handler the handler's name.
        key: its key; later messages of it wait behind this one. None if it has no order.
        envelope: its CloudEvents attributes.
        data: its body, byte for byte.
        attempts: how often it was tried.
        failure: the last error, or None.
    """

    position: int
    queue: str
    group: str | None
    topic: str
    key: str | None
    envelope: Envelope
    data: bytes
    attempts: int
    failure: Failure | None


class DeadLetters:
    """The dead letters of a storage.

    Args:
        storage: where they are.
        telemetry: the app's.
        wake: called after a change, so that the relay and the consumers of this process look at once. Those of other
            processes look by themselves.
    """

    def __init__(
        self, storage: Storage, telemetry: Telemetry, *, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._storage = storage
        self._telemetry = telemetry
        self._wake = wake

    async def list(
        self, *, group: str | None = None, topic: str | None = None, limit: int = PAGE
    ) -> Sequence[DeadLetter]:
        """The oldest dead letters.

        Args:
            group: only those of this group. Default None: of all groups, of outboxes and of after-commit handlers.
            topic: only those of this topic. Default None: of all topics.
            limit: how many at most. Default 100; `iterate` gives all.
        """
        found: list[DeadLetter] = []
        if limit > 0:
            async for letter in self.iterate(group=group, topic=topic):
                found.append(letter)
                if len(found) >= limit:
                    break
        return found

    async def iterate(
        self, *, group: str | None = None, topic: str | None = None
    ) -> AsyncIterator[DeadLetter]:
        """All dead letters from the oldest on, read page by page; see `list`."""
        queue = None if group is None or topic is None else group_queue(group, topic)
        after = 0
        while True:
            page = await self._storage.dead_letters(queue=queue, after=after, limit=PAGE)
            for stored in page:
                letter = _view(stored)
                if group in (None, letter.group) and topic in (None, letter.topic):
                    yield letter
            if len(page) < PAGE:
                return
            after = page[-1].position

    async def redrive(self, *positions: int) -> int:
        """Let dead letters run again, with new attempts, in order, before what is held behind them.

        Args:
            positions: of those; others are passed over.

        Returns:
            How many were dead letters.
        """
        count = await self._storage.redrive(positions) if positions else 0
        self._note(Count.REDRIVEN, count, f"{count} dead letters are redriven: {positions}.")
        return count

    async def redrive_all(self, *, group: str | None = None, topic: str | None = None) -> int:
        """Let all dead letters of a group, of a topic or of everything run again; see `redrive`.

        One that fails again meanwhile is not redriven twice.
        """
        positions = [letter.position async for letter in self.iterate(group=group, topic=topic)]
        total = 0
        for start in range(0, len(positions), PAGE):
            total += await self.redrive(*positions[start : start + PAGE])
        return total

    async def drop(self, *positions: int, reason: str) -> int:
        """Delete dead letters for good, which releases what is held behind them.

        Args:
            positions: of those; others are passed over.
            reason: why, for the log. Required: nothing is dropped in silence.

        Returns:
            How many were deleted.

        Raises:
            ConfigurationError: the reason is empty.
        """
        if not reason.strip():
            raise ConfigurationError(
                f"drop({', '.join(map(str, positions))}, reason={reason!r}): say why these messages are given up; the "
                "log keeps it."
            )
        count = await self._storage.drop(positions) if positions else 0
        self._note(
            Count.DROPPED,
            count,
            f"{count} dead letters are dropped for good: {positions}. Reason: {reason}",
        )
        return count

    def _note(self, what: Count, count: int, text: str) -> None:
        if count:
            self._telemetry.count(what, count)
            self._telemetry.warning(text)
            self._wake()


def _view(stored: Stored) -> DeadLetter:
    message = stored.message
    kind, _, rest = stored.queue.partition(":")
    # The topic may hold slashes as well as the group: it is known, so the group is what stands before it.
    group = rest.removesuffix(f"/{message.topic}") if kind == "group" else None
    return DeadLetter(
        position=stored.position,
        queue=stored.queue,
        group=group,
        topic=message.topic,
        key=message.key if message.key is not None else message.envelope.partitionkey,
        envelope=message.envelope,
        data=message.data,
        attempts=stored.attempts,
        failure=stored.failure,
    )
