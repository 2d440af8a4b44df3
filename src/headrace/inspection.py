"""The half of the storage seam that people work with: what stands in it, who runs, and mending dead letters.

The flow never calls these. They read what is committed, lock nothing that the flow waits for, and answer in pages, so that
somebody may look at any time, at any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.stored import Audit, AuditNote, DeadErrors, Handled, Pulse, Stored


class Inspection(Protocol):
    """What a `Storage` tells people, and what they may change. Safe for concurrent use, also by other processes.

    Every method is a short transaction of its own, safe to repeat unless it says otherwise. Those that change something take an
    `audit` note and write it in the same transaction, once for each transaction that changed something.
    """

    async def dead_letters(
        self,
        *,
        queue: str | None = None,
        after: int = 0,
        limit: int = 100,
        error: str | None = None,
        topic: str | None = None,
    ) -> Sequence[Stored]:
        """Dead letters by position, from the first after `after`. A page costs the same however many there are.

        Args:
            queue: only those of this queue; None: of all.
            after: only those with a higher position.
            limit: how many at most.
            error: only those whose `Failure.error` is this; empty: those without a failure; None: all.
            topic: only those of this topic; None: of all.
        """
        ...

    async def dead_errors(self, *, queue: str | None = None) -> Sequence[DeadErrors]:
        """Dead letters counted by queue, topic and error: the largest count first, then the oldest first."""
        ...

    async def behind(self, position: int) -> int:
        """How many messages wait behind this one: later ones of its queue, topic and key.

        0 for one without a key, and for one that is gone. In an outbox those that its relay has not looked at count as well.
        """
        ...

    async def find(
        self,
        *,
        id: str | None = None,  # noqa: A002 - CloudEvents' own name
        topic: str | None = None,
        key: str | None = None,
        queue: str | None = None,
        correlation: str | None = None,
        limit: int = 100,
    ) -> Sequence[Stored]:
        """Stored messages in any state, by position, to which all that is given applies.

        A diagnostic: there is no index on ids and keys, which would cost every send, so it reads all that is stored, in
        bounded parts. No part holds a snapshot or lock for long. Expect a second for some hundred thousand messages.

        Args:
            id: of the envelope.
            topic: of the message.
            key: of the message.
            queue: where it stands.
            correlation: the `correlationid` of the envelope.
            limit: how many at most; it ends when it has found so many.
        """
        ...

    async def handled(
        self,
        id: str,  # noqa: A002 - CloudEvents' own name
        *,
        groups: Sequence[str] | None = None,
        sources: Sequence[str] = (),
    ) -> Sequence[Handled]:
        """What the inbox has of a message, by group and source; at most 1 000.

        A message that a group has parked is there too, because its id counts as seen.

        Args:
            id: of the envelope.
            groups: only these; None: all.
            sources: only these; empty: all. With groups and sources it costs a look at each pair; without one of them the
                whole inbox is read.
        """
        ...

    async def redrive(self, positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        """Mark dead letters READY again with attempts 0; the owner runs them in order. Returns how many were marked."""
        ...

    async def drop(self, positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        """Delete dead letters, which releases what is held behind them. Returns how many were deleted."""
        ...

    async def rewrite(self, position: int, data: bytes, *, audit: AuditNote | None = None) -> bool:
        """Replace the body of a dead letter. Its envelope, id and place stay; it is still dead.

        Returns:
            False if it is no dead letter any more: redriven, dropped or never there. Then nothing was changed.
        """
        ...

    async def pulse(self, app: str, process: str, data: bytes, *, seconds: float) -> None:
        """Record what a process says of itself now, in place of what it said before.

        Args:
            app: whose process it is.
            process: its name, unique in the app.
            data: what it says, as the caller reads it again; some kilobytes at most.
            seconds: for how long `pulses` gives it, by the storage's clock.
        """
        ...

    async def pulses(self, app: str) -> Sequence[Pulse]:
        """What the processes of an app have last said of themselves, by name; none that has expired."""
        ...

    async def audit(self, app: str, who: str, action: str, detail: str) -> None:
        """Record something that a person did, where no other method does it in its transaction. Repeated, it is there twice."""
        ...

    async def audits(
        self, app: str, *, before: int | None = None, limit: int = 100
    ) -> Sequence[Audit]:
        """What people did, newest first. Nothing deletes these records.

        Args:
            app: in whose records.
            before: only those with a lower number, for the next page; None: from the newest on.
            limit: how many at most.
        """
        ...
