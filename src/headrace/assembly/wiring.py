"""All wiring faults of an app at once, each with the place of its registration (G12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headrace.bindings import Binding
from headrace.codec import Codec, unreadable
from headrace.container import Container
from headrace.errors import MessageDefinitionError
from headrace.injection import Injector, Origin
from headrace.maps import EventMap, RequestMap
from headrace.messages import fault_of_message, response_type
from headrace.notifications import Notification, notification_of
from headrace.responses import agree
from headrace.signatures import SignatureFault, response_of, stable_name

_MOST_NAME = 255


def wiring_faults(
    requests: RequestMap,
    events: EventMap,
    container: Container,
    injector: Injector,
    *,
    has_broker: bool,
    has_storage: bool,
    codec: Codec | None = None,
    others: Sequence[tuple[object, str]] = (),
) -> tuple[str, ...]:
    """Everything that is wrong with how messages, handlers and dependencies fit together, found before anything starts.

    Args:
        requests: all request bindings.
        events: all event bindings.
        container: where dependencies come from.
        injector: tells which dependencies Headrace provides itself.
        has_broker: whether notifications can be published.
        has_storage: whether units of work are transactions.
        codec: writes and reads the events of durable after-commit handlers; None leaves their check out.
        others: further classes whose constructors are injected (middlewares), each with the place of its registration.
    """
    bindings = (*requests.bindings, *events.bindings)
    faults = [
        *_duplicates(requests, events),
        *_messages(bindings),
        *_types(bindings),
        *_responses(requests),
        *_phases(events),
        *(_durable(events, codec) if has_storage else ()),
        *_dependencies(bindings, container, injector, others),
        *_lifetimes(others, container, injector),
    ]
    if not has_broker:
        faults.extend(_notifications(bindings))
    return tuple(dict.fromkeys(faults))


def _duplicates(requests: RequestMap, events: EventMap) -> Iterable[str]:
    first: dict[type, Binding] = {}
    for b in requests.bindings:
        known = first.setdefault(b.message, b)
        if known is not b:
            yield (
                f"{b.message.__qualname__} has two handlers: {known.name} ({known.where}) and {b.name} ({b.where}). "
                f"A request has exactly one; remove one of the two bindings."
            )
    seen: dict[tuple[type, object], Binding] = {}
    for b in events.bindings:
        known = seen.setdefault((b.message, b.handler), b)
        if known is not b:
            yield (
                f"{b.name} is bound to {b.message.__qualname__} twice, at {known.where} and {b.where}. An event reaches each "
                f"handler once; remove one of the two bindings."
            )
    for b in events.bindings:
        if b.message in first:
            yield (
                f"{b.message.__qualname__} is bound as a request ({first[b.message].where}) and as an event ({b.where}). Make "
                f"two classes, or remove one of the two bindings."
            )


def _messages(bindings: Iterable[Binding]) -> Iterable[str]:
    for b in bindings:
        for kind in (b.message, *(b.raises or ())):
            fault = fault_of_message(kind)
            if fault is not None:
                yield f"{fault} (bound to {b.name} at {b.where})"


def _types(bindings: Iterable[Binding]) -> Iterable[str]:
    literal: dict[str, type] = {}
    for b in bindings:
        for kind in (b.message, *(b.raises or ())):
            notification = _notification(kind)
            if notification is None:
                continue
            known = literal.setdefault(notification.type, kind)
            if known is not kind:
                yield (
                    f"{known.__module__}.{known.__qualname__} and {kind.__module__}.{kind.__qualname__} both have the type "
                    f"{notification.type!r} ({b.where}). A type names one shape on the wire: give one of them another."
                )


def _responses(requests: RequestMap) -> Iterable[str]:
    for b in requests.bindings:
        try:
            declared, answered = response_type(b.message), response_of(b.handler)
        except SignatureFault as fault:
            yield str(fault)
            continue
        if agree(declared, answered):
            continue
        yield (
            f"{b.message.__qualname__} declares the response {_type_name(declared)}, but {b.name} ({b.where}) answers "
            f"{_type_name(answered)}. Make the two agree."
        )


def _phases(events: EventMap) -> Iterable[str]:
    for b in events.bindings:
        if b.phase != "after_commit":
            continue
        if _notification(b.message) is not None:
            yield (
                f"{b.name} ({b.where}) is bound to the notification {b.message.__qualname__} after the commit. A notification's "
                f"handlers always run where it is consumed, after the commit: leave phase= out."
            )


def _durable(events: EventMap, codec: Codec | None) -> Iterable[str]:
    """Storage keeps the names of after-commit handlers and the bodies of their events: both must lead back to them."""
    named: dict[str, Binding] = {}
    for b in events.bindings:
        if b.phase != "after_commit":
            continue
        name = stable_name(b.handler)
        if not hasattr(b.handler, "__qualname__") or len(name) > _MOST_NAME:
            yield (
                f"{name} ({b.where}) is bound after the commit and has no name by which storage could keep what is to be done: "
                f"bind a class or a plain async function whose qualified name has at most {_MOST_NAME} characters."
            )
            continue
        known = named.setdefault(name, b)
        if known.handler is not b.handler:
            yield (
                f"two after-commit handlers are both named {name} ({known.where}, {b.where}). Storage keeps what is to be done "
                f"by the handler's name: give one of them another."
            )
        fault = unreadable(codec, b.message) if codec is not None else None
        # A base class with others below it need not be readable itself.
        if fault is not None and not type.__subclasses__(b.message):
            yield (
                f"{b.message.__qualname__} has the after-commit handler {b.name} ({b.where}), which storage keeps it for, and "
                f"it cannot be read back: {fault} Make it a dataclass, a pydantic model or a Struct, of types that the codec "
                f"knows."
            )


def _notifications(bindings: Iterable[Binding]) -> Iterable[str]:
    for b in bindings:
        for kind in (b.message, *(b.raises or ())):
            if _notification(kind) is not None:
                yield (
                    f"{kind.__qualname__} is a notification ({b.name}, {b.where}) and the app has no broker. Pass broker=..., "
                    f'such as "memory://", or "sql://" together with a storage.'
                )


def _dependencies(
    bindings: Iterable[Binding],
    container: Container,
    injector: Injector,
    others: Sequence[tuple[object, str]],
) -> Iterable[str]:
    needs: list[tuple[str, object]] = []
    for target, skip, name, where in (
        *((b.handler, b.is_function, b.name, b.where) for b in bindings),
        *(
            (target, False, getattr(target, "__qualname__", repr(target)), where)
            for target, where in others
        ),
    ):
        try:
            plan = injector.plan(target, skip_first=skip)
        except SignatureFault as fault:
            yield str(fault)
        else:
            needs.extend((f"{name} ({where})", key) for key in injector.unprovided(plan))
    yield from container.faults(needs)


def _lifetimes(
    others: Sequence[tuple[object, str]], container: Container, injector: Injector
) -> Iterable[str]:
    """Middlewares are made once: nothing that lives for one request can be injected into them."""
    for target, where in others:
        name = getattr(target, "__qualname__", repr(target))
        try:
            arguments = injector.plan(target, skip_first=False).arguments
        except SignatureFault:
            continue  # reported with the dependencies
        for argument in arguments:
            if argument.origin is Origin.CONSTANT:
                continue
            if argument.origin is Origin.SCOPE and container.lifetime(argument.key) is None:
                continue  # nothing provides it, reported with the dependencies
            yield (
                f"the middleware {name} ({where}) is made once for the app, but its parameter {argument.name!r} lives for one "
                f"request ({_type_name(argument.key)}). Give it something of the app's lifetime: an instance in providers=[...], "
                f"or a dishka provider with Scope.APP."
            )


def _notification(kind: type) -> Notification | None:
    try:
        return notification_of(kind)
    except MessageDefinitionError:
        return None  # reported with the message's other faults


def _type_name(kind: object) -> str:
    return str(getattr(kind, "__qualname__", None) or kind)
