"""Every exception of Headrace. Each has a stable code and an entry in the error catalogue (docs/errors.md)."""

from __future__ import annotations

from typing import ClassVar


class HeadraceError(Exception):
    """The base of all errors that Headrace raises.

    The message says what happened, where, and what to do. `code` is stable across releases and names the entry in the
    error catalogue.
    """

    code: ClassVar[str] = "HR000"

    def __str__(self) -> str:
        return f"[{self.code}] {super().__str__()}"


class MessageDefinitionError(HeadraceError, TypeError):
    """A message class is declared in a way that cannot work (two kinds of class at once, a key that is no field, ...)."""

    code = "HR001"


class BindingError(HeadraceError, TypeError):
    """A call of `bind`, `handler` or a constructor was given something that it cannot take."""

    code = "HR002"


class WiringError(HeadraceError):
    """The app is wired wrongly. Lists every fault, each with the place of its registration; nothing was started (G12).

    Args:
        faults: one paragraph a fault.
    """

    code = "HR003"

    def __init__(self, faults: tuple[str, ...]) -> None:
        self.faults = faults
        count = f"{len(faults)} wiring fault" + ("s" if len(faults) != 1 else "")
        super().__init__(
            f"{count}, nothing was started:\n"
            + "\n".join(f"  {n}. {f}" for n, f in enumerate(faults, 1))
        )


class ConfigurationError(HeadraceError, ValueError):
    """A setting or URL has a value that cannot be used."""

    code = "HR004"


class MissingExtra(HeadraceError, ImportError):
    """A driver or integration needs packages that are not installed; the message names the extra."""

    code = "HR005"

    @classmethod
    def of(cls, what: str, extra: str, package: str) -> MissingExtra:
        """The error for a package that is not there.

        Args:
            what: needs it, as the user named it: a URL's scheme, a module, a command.
            extra: has it.
            package: its name, or that of a module in it.
        """
        return cls(
            f"{what} needs the package {package.partition('.')[0]!r}, which is not installed. "
            f"Install the extra: pip install 'headrace[{extra}]'"
        )


class AppNotRunning(HeadraceError):
    """`send` or `unit_of_work` was called on an app that is not started, or already stopped."""

    code = "HR006"


class HandlerNotFound(HeadraceError, LookupError):
    """A request has no handler; nothing was done (G1)."""

    code = "HR010"


class EventCycle(HeadraceError):
    """A chain of follow-up events or nested sends is deeper than the limit; the message shows the chain (G2)."""

    code = "HR011"


class EventNotHandled(HeadraceError, LookupError):
    """A domain event has no handler, in an app that asked for an error (`unhandled="error"`)."""

    code = "HR012"


class UndeclaredEvent(HeadraceError):
    """A handler raised an event of a type that its `raises` declaration does not name."""

    code = "HR013"


class QueryRaisedEvent(HeadraceError):
    """The handler of a query collected an event; queries are read-only (G4)."""

    code = "HR014"


class UnitOfWorkError(HeadraceError):
    """A handler tried to end, or to use wrongly, the transaction that belongs to its unit of work (G4)."""

    code = "HR020"


class ConcurrentUnitOfWork(UnitOfWorkError):
    """A second task used a unit of work, or two nested sends ran at once; one unit is one task's (G4)."""

    code = "HR021"


class UnitOfWorkClosed(UnitOfWorkError):
    """Something that outlived its unit of work (a task, a kept session) used it after its end (G4)."""

    code = "HR022"


class CommitOutcomeUnknown(HeadraceError):
    """The connection was lost during COMMIT: the unit may have been committed or not (G4). Not retried for you."""

    code = "HR023"


class StorageUnavailable(HeadraceError, ConnectionError):
    """The database cannot be reached."""

    code = "HR030"


class StorageBusy(HeadraceError, TimeoutError):
    """A lock or the write turn could not be had in time."""

    code = "HR031"


class SchemaVersionError(HeadraceError):
    """The Headrace tables in the database belong to another version."""

    code = "HR032"


class PartitionCountChanged(HeadraceError):
    """The app was first started with another number of outbox partitions."""

    code = "HR033"


class LeaseLost(HeadraceError):
    """Another process has taken over the partition; what was under way here was rolled back (G6, G7)."""

    code = "HR034"


class BrokerUnavailable(HeadraceError, ConnectionError):
    """The broker cannot be reached, or refuses for now."""

    code = "HR040"


class TopicNotFound(HeadraceError, LookupError):
    """A topic was not declared and does not exist on the broker."""

    code = "HR041"


class TopicMismatch(HeadraceError):
    """A topic exists on the broker with another number of partitions."""

    code = "HR042"


class EncodeError(HeadraceError, ValueError):
    """An event that is to be stored cannot be written as bytes; raised by `send` before the commit."""

    code = "HR050"


class MessageTooLarge(EncodeError):
    """An event that is to be stored is larger than the limit; raised by `send` before the commit (G6)."""

    code = "HR051"


class DecodeError(HeadraceError, ValueError):
    """The body of a received message does not fit its event class; it becomes a dead letter (G14)."""

    code = "HR052"


class EnvelopeError(HeadraceError, ValueError):
    """The attributes of a message are no valid CloudEvents 1.0 attributes, or metadata cannot be an extension."""

    code = "HR053"


class HandlerTimeout(HeadraceError, TimeoutError):
    """A consumed handler took longer than its subscription's `timeout_seconds`; counts as an attempt (G9)."""

    code = "HR060"


class HandlerCancelled(HeadraceError):
    """A consumed handler ended with `CancelledError` though nobody had cancelled it; counts as an attempt (G9)."""

    code = "HR063"


class ProcessDied(HeadraceError):
    """The process died each time it tried this message; it became a dead letter (G9)."""

    code = "HR061"


class DrainTimeout(HeadraceError, TimeoutError):
    """Stopping or settling did not end within its deadline; the rest is redelivered at the next start (G10)."""

    code = "HR062"


class PartitionStands(HeadraceError):
    """An app without storage handles no more of a partition in which a message has failed; it is redelivered (G9)."""

    code = "HR064"


class OutboxBypassed(HeadraceError):
    """Application code published straight to a broker inside a unit of work; raised under `headrace.testing.Harness`."""

    code = "HR070"
