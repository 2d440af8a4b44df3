"""What flowed through an app under test: every event that was emitted and every run of a handler, with what caused what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from headrace.bindings import Binding
from headrace.envelope import Envelope
from headrace.messages import Event, is_event
from headrace.recorder import Ended
from headrace.unit_of_work import UnitOfWork, current_unit


@dataclass(eq=False, slots=True)
class Run:
    """One run of a handler.

    Args:
        binding: of the handler.
        message: what it was given.
        envelope: the message's own.
        group: the group that consumed it, or None in the process that raised it.
        unit: the number of the unit of work that it ran in.
        at: virtual time.
        within: the request's handler inside of which it ran, or None.
        ended: False while it runs.
        error: what ended it, or None.
        undone: True if its unit of work was rolled back.
    """

    binding: Binding
    message: object
    envelope: Envelope
    group: str | None
    unit: int
    at: datetime
    within: Run | None = None
    ended: bool = False
    error: BaseException | None = None
    undone: bool = False

    @property
    def is_request(self) -> bool:
        """True if it handled a request."""
        return not is_event(self.binding.message)

    @property
    def key(self) -> tuple[str, int, str | None]:
        """The same for every try of one message by one handler in one group."""
        return (self.envelope.id, id(self.binding.handler), self.group)


@dataclass(eq=False, slots=True)
class Raised:
    """One event that was emitted: `by` is the run that raised it, if it is known more exactly than by its cause."""

    event: Event
    envelope: Envelope
    unit: int
    by: Run | None = None
    undone: bool = False


@dataclass(eq=False, slots=True)
class FlowRecord:
    """A `Recorder` that keeps all it is told.

    Args:
        now: the virtual time.
    """

    now: Callable[[], datetime]
    runs: list[Run] = field(default_factory=list[Run])
    emitted: list[Raised] = field(default_factory=list[Raised])
    _open: list[Run] = field(default_factory=list[Run])
    _units: list[tuple[int, UnitOfWork]] = field(default_factory=list[tuple[int, UnitOfWork]])
    _count: int = 0
    # By identity: equal events are different ones. The events are kept, so that no other gets the same identity.
    _raisers: dict[int, tuple[Event, Run]] = field(default_factory=dict[int, tuple[Event, Run]])

    # What the app tells ----------------------------------------------------------------------------------------------

    def raised(self, event: Event, envelope: Envelope) -> None:
        """See `Recorder.raised`."""
        _, by = self._raisers.pop(id(event), (None, None))
        self.emitted.append(Raised(event, envelope, self._unit(), by))

    def began(
        self, binding: Binding, message: object, envelope: Envelope, group: str | None
    ) -> Ended:
        """See `Recorder.began`."""
        unit = self._unit()
        run = Run(binding, message, envelope, group, unit, self.now())
        inside = (one for one in reversed(self._open) if one.unit == unit and one.is_request)
        run.within = next(inside, None)
        self.runs.append(run)
        self._open.append(run)

        def end(error: BaseException | None, raised: Sequence[Event] = ()) -> None:
            self._open.remove(run)
            run.ended = True
            run.error = error
            self._raisers.update({id(event): (event, run) for event in raised})
            if error is not None:
                self._undo(run)

        return end

    def failed(self, request: object, error: BaseException) -> None:
        """A send failed though its handler had ended well: its commit did."""
        for run in reversed(self.runs):
            if run.message is request and run.error is None and run.ended:
                run.error = error
                self._undo(run)
                return

    def _undo(self, run: Run) -> None:
        """A failure takes back what is inside the request that failed, else all that its unit did."""
        since = 0
        if run.within is not None:
            if not run.is_request:
                return  # the request around it fails too, and takes back more
            since = self.runs.index(run)
        for one in self.runs[since:]:
            if one.unit == run.unit and (run.within is None or _inside(one, run)):
                one.undone = True
        for raised in self.emitted:
            if raised.unit == run.unit and (run.within is None or self._beneath(raised, run)):
                raised.undone = True

    def _beneath(self, raised: Raised, run: Run) -> bool:
        causes = {one.envelope.id for one in self.runs if _inside(one, run)}
        return raised.envelope.causationid in causes

    def _unit(self) -> int:
        """The number of the running unit, whose branches count as itself."""
        unit = current_unit.get()
        if unit is None:
            return 0
        while unit.outer is not None and unit.outer.mediator is unit.mediator:
            if unit.outer.closed:
                break
            unit = unit.outer
        for number, known in self._units:
            if known is unit:
                return number
        self._units = [(number, one) for number, one in self._units if not one.closed]
        self._count += 1
        self._units.append((self._count, unit))
        return self._count

    # What a test asks ------------------------------------------------------------------------------------------------

    def sent(self, kind: type) -> Iterator[object]:
        """The requests of a class that reached their handler, in order."""
        return (
            run.message for run in self.runs if run.is_request and isinstance(run.message, kind)
        )

    def raised_of(self, kind: type) -> Iterator[object]:
        """The events of a class that were raised and not taken back, each once."""
        of_kind = (one for one in self.emitted if isinstance(one.event, kind))
        return (one.event for one in of_kind if not one.undone)

    def handled_by(self, handler: object) -> list[object]:
        """What an event handler has handled for good, each once."""
        last: dict[tuple[str, int, str | None], object] = {}
        for run in self._of(handler):
            if run.ended and not run.undone:
                last.setdefault(run.key, run.message)
        return list(last.values())

    def retried(self, handler: object) -> Iterator[object]:
        """The messages that a handler was given again after it had failed, once for each further try."""
        failed: set[object] = set()
        for run in self._of(handler):
            if run.key in failed:
                yield run.message
            failed.discard(run.key)
            if run.error is not None:
                failed.add(run.key)

    def _of(self, handler: object) -> Iterable[Run]:
        return (run for run in self.runs if run.binding.handler is handler and not run.is_request)


def _inside(one: Run, outer: Run) -> bool:
    at: Run | None = one
    while at is not None:
        if at is outer:
            return True
        at = at.within
    return False
