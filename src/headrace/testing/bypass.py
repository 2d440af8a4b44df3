"""Finding what goes to a broker past the outbox: a publish of an application's own, inside a unit of work."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, MutableMapping, Sequence
from types import FrameType
from typing import Any, Final, Protocol, cast

from headrace.broker import Broker
from headrace.errors import OutboxBypassed
from headrace.unit_of_work import current_unit

CLIENTS: Final = (
    ("aiokafka", "AIOKafkaProducer", ("send", "send_and_wait", "send_batch")),
    ("confluent_kafka", "Producer", ("produce", "produce_batch")),
    ("confluent_kafka.aio", "AIOProducer", ("produce",)),
    ("aio_pika", "Exchange", ("publish",)),
    ("aiormq.channel", "Channel", ("basic_publish",)),
    ("nats.aio.client", "Client", ("publish",)),
    ("nats.js", "JetStreamContext", ("publish", "publish_async")),
    ("redis.commands.core", "StreamCommands", ("xadd",)),
    ("redis.commands.core", "PubSubCommands", ("publish", "spublish")),
)
"""Module, class and methods by which well-known clients publish."""

# With what stands between a client and the code that calls it.
_PACKAGES: Final = frozenset(module.partition(".")[0] for module, _, _ in CLIENTS) | {
    *("faststream", "opentelemetry", "wrapt")
}
_ANY_CALL = Callable[..., object]


class _Watched(Protocol):
    """A method that asks the guards of all running harnesses first."""

    headrace_guards: list[Guard]

    def __call__(self, *args: Any, **options: Any) -> object: ...


class Guard:
    """Watches the clients that are imported, and brokers, while a harness runs.

    Args:
        mediator: of the app; whose units of work publish by the outbox alone.
        brokers: those that the app's code may have at hand.
    """

    def __init__(self, mediator: object, brokers: Sequence[Broker]) -> None:
        self._mediator = mediator
        self._brokers = brokers
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Begin to watch."""
        for module, name, methods in CLIENTS:
            kind = getattr(sys.modules.get(module), name, None)
            if isinstance(kind, type):
                for method in methods:
                    if method in vars(kind):
                        self._watch(_Class(kind), method, f"{name}.{method}")
        for broker in self._brokers:
            self._watch(_Object(broker), "publish", f"{type(broker).__name__}.publish")

    def remove(self) -> None:
        """Watch no longer; everything is what it was before."""
        while self._undo:
            self._undo.pop()()

    def check(self, what: str) -> None:
        """Raise if what is called is called by an application's code inside a unit of work.

        Raises:
            OutboxBypassed: names the line.
        """
        unit = current_unit.get()
        while unit is not None and (unit.mediator is not self._mediator or unit.closed):
            unit = unit.outer
        if unit is None:
            return
        frame = _caller(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if frame is None or _package(frame) == "headrace":
            return  # the relay, or an app without storage after its handlers have succeeded
        message = type(unit.cause.message).__qualname__.rpartition("<locals>.")[2]
        raise OutboxBypassed(
            f"{what} was called at {frame.f_code.co_filename}:{frame.f_lineno}, inside the unit of work of {message}. What is "
            "published there goes out though the unit may yet be rolled back, and is lost if the process dies before. Raise a "
            "notification event instead: self.events.append(...). A test that means it says Harness(app, bypass=True)."
        )

    def _watch(self, place: _Place, method: str, what: str) -> None:
        present = place.get(method)
        guards: list[Guard] | None = getattr(present, "headrace_guards", None)
        if guards is None:
            guards = []
            place.put(method, _watched(present, guards, what))
        guards.append(self)

        def undo() -> None:
            guards.remove(self)
            if not guards:
                place.restore(method, present)

        if len(guards) > 1:
            present = cast(_ANY_CALL, getattr(present, "__wrapped__"))  # noqa: B009 - checkers do not know it
        self._undo.append(undo)


def _watched(method: _ANY_CALL, guards: list[Guard], what: str) -> _Watched:
    # No coroutine function: a call is looked at when it is made, also if it is awaited elsewhere.
    def watched(*args: Any, **options: Any) -> object:
        for guard in guards:
            guard.check(what)
        return method(*args, **options)

    made = cast(_Watched, functools.wraps(method)(watched))
    made.headrace_guards = guards
    return made


class _Place(Protocol):
    """Where a method is kept."""

    def get(self, name: str) -> _ANY_CALL: ...

    def put(self, name: str, method: _ANY_CALL) -> None: ...

    def restore(self, name: str, method: _ANY_CALL) -> None: ...


class _Object:
    """One object, whose class is left alone."""

    def __init__(self, owner: object) -> None:
        self._owner = owner

    def get(self, name: str) -> _ANY_CALL:
        return cast(_ANY_CALL, getattr(self._owner, name))

    def put(self, name: str, method: _ANY_CALL) -> None:
        setattr(self._owner, name, method)

    def restore(self, name: str, method: _ANY_CALL) -> None:
        delattr(self._owner, name)


class _Class:
    """A class, written in Python or in C."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def get(self, name: str) -> _ANY_CALL:
        return cast(_ANY_CALL, vars(self._kind)[name])

    def put(self, name: str, method: _ANY_CALL) -> None:
        try:
            setattr(self._kind, name, method)
        except TypeError:
            _set_in_c(self._kind, name, method)

    restore = put


def _set_in_c(kind: type, name: str, method: _ANY_CALL) -> None:
    """Set a method of a class that was made in C, such as confluent-kafka's producer, which refuses setattr.

    A subclass in its place would be missed by all code that has imported the class already.
    """
    import ctypes
    import gc

    for found in gc.get_referents(kind.__dict__):
        if isinstance(found, dict):
            cast("MutableMapping[str, object]", found)[name] = method
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def _caller(frame: FrameType | None) -> FrameType | None:
    """The first frame that is neither here nor in a client."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith("headrace.testing") and _package(frame) not in _PACKAGES:
            return frame
        frame = frame.f_back
    return None


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
