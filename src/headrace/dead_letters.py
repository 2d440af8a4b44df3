"""Dead letters: look at them, mend them, run them again, or give them up with a reason (G9). Of the outbox and of groups alike.

Source: "Dead Letter Channel", Enterprise Integration Patterns.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from headrace.errors import ConfigurationError
from headrace.repairs import note_repair
from headrace.storage import AuditNote, DeadErrors, Failure, group_queue
from headrace.telemetry import Count, about
from headrace.text import keepable

if TYPE_CHECKING:
    from headrace.envelope import Envelope
    from headrace.storage import Storage, Stored
    from headrace.telemetry import Telemetry

PAGE = 100
"""Dead letters that one query reads, and one transaction changes with a record of what they were: bodies may be large."""

SHOWN = 20
"""Positions that a log record names."""


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
        at: when it was first stored, in UTC seconds since the epoch; None if the storage does not tell.
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
    at: float | None = None


Check = Callable[[DeadLetter, bytes], None]
"""Raises an error that says why a dead letter cannot have these bytes as its body."""


class DeadLetters:
    """The dead letters of a storage. What changes some of them leaves an audit record, in the same transaction.

    Args:
        storage: where they are.
        telemetry: the app's.
        wake: called after a change, so that the relay and the consumers of this process look at once. Those of other
            processes look by themselves.
        check: refuses the new body of one that is edited. Default: any bytes will do.
    """

    def __init__(
        self,
        storage: Storage,
        telemetry: Telemetry,
        *,
        wake: Callable[[], None] = lambda: None,
        check: Check = lambda letter, data: None,
    ) -> None:
        self._storage = storage
        self._telemetry = telemetry
        self._wake = wake
        self._check = check

    async def list(
        self,
        *,
        group: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        queue: str | None = None,
        after: int = 0,
        limit: int = PAGE,
    ) -> Sequence[DeadLetter]:
        """The oldest dead letters.

        Args:
            group: only those of this group. Default None: of all groups, of outboxes and of after-commit handlers.
            topic: only those of this topic. Default None: of all topics.
            error: only those with this type of error, as `Failure.error` names it. Default None: with any error, or none.
            queue: only those of this queue, see `DeadLetter.queue`. Default None: of all.
            after: only those behind this position: that of the last one of the page before. Default 0: from the first on.
            limit: how many at most. Default 100; `iterate` gives all.
        """
        if limit < 1:
            return []
        places = await self._places(_Chosen(group, topic, error, queue))
        return [_view(stored) for stored in await self._page(places, error, after, limit)]

    async def iterate(
        self,
        *,
        group: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        queue: str | None = None,
    ) -> AsyncIterator[DeadLetter]:
        """All dead letters from the oldest on, read page by page; see `list`."""
        async for page in self._pages(_Chosen(group, topic, error, queue)):
            for letter in page:
                yield letter

    async def errors(
        self, group: str | None = None, topic: str | None = None, *, queue: str | None = None
    ) -> Sequence[DeadErrors]:
        """What dead letters failed of: counted by queue, topic and type of error, the most frequent first; see `list`."""
        chosen = _Chosen(group, topic, None, queue)
        found = await self._storage.dead_errors(queue=queue)
        return [each for each in found if chosen.takes(each.queue, each.topic)]

    async def get(self, position: int) -> DeadLetter | None:
        """One dead letter; None if it is none, any more."""
        for stored in await self._storage.dead_letters(after=position - 1, limit=1):
            if stored.position == position:
                return _view(stored)
        return None

    async def behind(self, position: int) -> int:
        """How many messages wait behind this one: later ones of its queue, topic and key."""
        return await self._storage.behind(position)

    def check_body(self, letter: DeadLetter, data: bytes) -> None:
        """Raise what `edit` would raise for this body, and change nothing; see there."""
        self._check(letter, data)

    async def edit(self, position: int, data: bytes, *, by: str = "") -> bool:
        """Replace the body of a dead letter. It stays dead until it is redriven, with its id and all of its envelope.

        Args:
            position: which.
            data: the new body, as the app's codec writes it. Where the app knows the type, it must be able to read it.
            by: who wants it, for the audit record.

        Returns:
            False if it is no dead letter any more; then nothing was changed.

        Raises:
            DecodeError: the app knows the type, and cannot read this body; nothing was changed.
            MessageTooLarge: it is larger than `Limits.body_bytes`; nothing was changed.
        """
        letter = await self.get(position)
        if letter is None:
            return False
        self._check(letter, data)
        sizes = f"{len(letter.data)} bytes became {len(data)}"
        note = self._audit(by, "edit", f"Dead letter {_called(letter)}: its body of {sizes}.")
        if not await self._storage.rewrite(position, data, audit=note):
            return False
        text = f"The body of dead letter {position} is replaced: {sizes}."
        named = {"position": position, **about(letter.envelope)}
        note_repair(self._telemetry, Count.EDITED, [letter], 1, text, by, **named)
        self._wake()
        return True

    async def redrive(self, *positions: int, by: str = "") -> int:
        """Let dead letters run again, with new attempts, in order, before what is held behind them.

        Args:
            positions: of those; others are passed over.
            by: who wants it, for the audit record.

        Returns:
            How many were dead letters.
        """
        return sum([await self._redrive(some, by) async for some in self._named(positions)])

    async def redrive_all(
        self,
        *,
        group: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        queue: str | None = None,
        by: str = "",
    ) -> int:
        """Let all dead letters of a group, of a topic, with an error or all that there are run again; see `list` and `redrive`.

        One that fails again meanwhile is not redriven twice.
        """
        pages = self._pages(_Chosen(group, topic, error, queue))
        return sum([await self._redrive(page, by) async for page in pages])

    async def drop(self, *positions: int, reason: str, by: str = "") -> int:
        """Delete dead letters for good, which releases what is held behind them.

        Args:
            positions: of those; others are passed over.
            reason: why, for the log and the audit record. Required: nothing is dropped in silence.
            by: who wants it, for the audit record.

        Returns:
            How many were deleted.

        Raises:
            ConfigurationError: the reason is empty.
        """
        _need_reason(reason, f"drop({', '.join(map(str, positions))}")
        return sum([await self._drop(some, reason, by) async for some in self._named(positions)])

    async def drop_all(
        self,
        *,
        group: str | None = None,
        topic: str | None = None,
        error: str | None = None,
        queue: str | None = None,
        reason: str,
        by: str = "",
    ) -> int:
        """Delete all dead letters of a group, of a topic, with an error or all that there are; see `list` and `drop`.

        Raises:
            ConfigurationError: the reason is empty.
        """
        chosen = _Chosen(group, topic, error, queue)
        _need_reason(reason, f"drop_all({chosen}")
        return sum([await self._drop(page, reason, by) async for page in self._pages(chosen)])

    async def _redrive(self, letters: Sequence[DeadLetter], by: str) -> int:
        positions = [letter.position for letter in letters]
        note = self._audit(by, "redrive", f"Dead letters {_listed(letters)}.")
        count = await self._storage.redrive(positions, audit=note)
        text = f"{count} dead letters are redriven: {_numbers(positions)}."
        if count:
            note_repair(self._telemetry, Count.REDRIVEN, letters, count, text, by, messages=count)
            self._wake()
        return count

    async def _drop(self, letters: Sequence[DeadLetter], reason: str, by: str) -> int:
        positions = [letter.position for letter in letters]
        note = self._audit(by, "drop", f"Reason: {reason}. Dead letters {_listed(letters)}.")
        count = await self._storage.drop(positions, audit=note)
        text = f"{count} dead letters are dropped for good: {_numbers(positions)}. Reason: {reason}"
        if count:
            note_repair(self._telemetry, Count.DROPPED, letters, count, text, by, messages=count)
            self._wake()
        return count

    async def _named(self, positions: Sequence[int]) -> AsyncGenerator[Sequence[DeadLetter]]:
        """Those of these positions that are dead letters, some at a time, in order."""
        ordered = sorted(set(positions))
        for start in range(0, len(ordered), PAGE):
            some = [await self.get(position) for position in ordered[start : start + PAGE]]
            if letters := [letter for letter in some if letter is not None]:
                yield letters

    async def _pages(self, chosen: _Chosen) -> AsyncGenerator[Sequence[DeadLetter]]:
        places = await self._places(chosen)
        after = 0
        while page := await self._page(places, chosen.error, after, PAGE):
            yield [_view(stored) for stored in page]
            after = page[-1].position
            if len(page) < PAGE:
                return

    async def _places(self, chosen: _Chosen) -> Sequence[_Place]:
        """Where to look. A group without a topic has a queue for each of its topics, which are few."""
        if chosen.group is None:
            return [(chosen.queue, chosen.topic)]
        if chosen.topic is not None:
            queue = group_queue(chosen.group, chosen.topic)
            return [(queue, chosen.topic)] if chosen.queue in {None, queue} else []
        errors = await self._storage.dead_errors(queue=chosen.queue)
        places = {(one.queue, one.topic) for one in errors if chosen.takes(one.queue, one.topic)}
        return sorted(places)

    async def _page(
        self, places: Sequence[_Place], error: str | None, after: int, limit: int
    ) -> Sequence[Stored]:
        found: list[Stored] = []
        for queue, topic in places:
            found += await self._storage.dead_letters(
                queue=queue, topic=topic, after=after, limit=limit, error=error
            )
        return sorted(found, key=_position)[:limit]

    def _audit(self, by: str, action: str, detail: str) -> AuditNote:
        return AuditNote(self._telemetry.app, keepable(by), action, keepable(detail))


_Place = tuple[str | None, str | None]
"""A queue and a topic; None for any."""


class _Chosen(NamedTuple):
    """Which dead letters somebody asks for."""

    group: str | None
    topic: str | None
    error: str | None
    queue: str | None

    def takes(self, queue: str, topic: str) -> bool:
        """True if those of this queue and topic are among them, as far as group and topic go."""
        return self.group in {None, _group_of(queue, topic)} and self.topic in {None, topic}

    def __str__(self) -> str:
        given = {name: value for name, value in self._asdict().items() if value is not None}
        return ", ".join(f"{name}={value!r}" for name, value in given.items())


def _need_reason(reason: str, call: str) -> None:
    if not reason.strip():
        opened = call if call.endswith("(") else f"{call}, "
        raise ConfigurationError(
            f"{opened}reason={reason!r}): say why these messages are given up; the log and the audit record keep it."
        )


def _called(letter: DeadLetter) -> str:
    key = f", key {letter.key!r}" if letter.key is not None else ""
    where = f"{letter.queue}, topic {letter.topic!r}{key}"
    return f"{letter.position} ({letter.envelope.type} {letter.envelope.id} in {where})"


def _listed(letters: Sequence[DeadLetter]) -> str:
    return ", ".join(map(_called, letters))


def _numbers(positions: Sequence[int]) -> str:
    few = ", ".join(map(str, positions[:SHOWN]))
    return few if len(positions) <= SHOWN else f"{few} and so on to {positions[-1]}"


def _group_of(queue: str, topic: str) -> str | None:
    kind, _, rest = queue.partition(":")
    # The group may hold slashes.
    return rest.removesuffix(f"/{topic}") if kind == "group" else None


def _position(stored: Stored) -> int:
    return stored.position


def _view(stored: Stored) -> DeadLetter:
    message = stored.message
    return DeadLetter(
        position=stored.position,
        queue=stored.queue,
        group=_group_of(stored.queue, message.topic),
        topic=message.topic,
        key=message.key if message.key is not None else message.envelope.partitionkey,
        envelope=message.envelope,
        data=message.data,
        attempts=stored.attempts,
        failure=stored.failure,
        at=stored.stored_at,
    )
