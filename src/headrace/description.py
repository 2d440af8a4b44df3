"""The description of an app: its messages, handlers, topics and groups, and the arrows between them, as plain data.

Everything that shows an app reads this and nothing else: the flow in the terminal, the dashboard, the AsyncAPI document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

from msgspec import Struct

from headrace.bindings import Binding
from headrace.broker import Topic
from headrace.errors import MessageDefinitionError
from headrace.handlers import Events
from headrace.messages import is_query, is_request
from headrace.notifications import Notification, notification_of
from headrace.signatures import SignatureFault, parameters_of, stable_name
from headrace.subscriptions import Subscription

MessageKind = Literal["command", "query", "domain event", "notification"]
"""What a message is. A request that is no query is a command."""


class MessageInfo(Struct, frozen=True, kw_only=True):
    """A class of requests or events.

    Args:
        id: the qualified name of the class with its module: what other parts of the description refer to.
        name: the name of the class, for people.
        kind: see `MessageKind`.
        cls: the class. Left out of JSON.
        type: a notification's literal on the wire; None for others.
        topic: a notification's topic; None for others.
        key: the field or function that a notification's key is read from; None if it has no order.
        doc: the first paragraph of its docstring, or "".
    """

    id: str
    name: str
    kind: MessageKind
    cls: type
    type: str | None = None
    topic: str | None = None
    key: str | None = None
    doc: str = ""


class HandlerInfo(Struct, frozen=True, kw_only=True):
    """A handler of one class of messages.

    Args:
        id: the qualified name of the class or function with its module.
        name: its own name, for people.
        message: the id of the message that it handles. A handler that is bound to a base class or to several messages stands
            once for each.
        runs: "request": it answers a request. "event": in the unit of work that raised the event. "after_commit": after
            that. "consumed": where a notification is consumed.
        groups: the groups that it runs in, if `runs` is "consumed".
        where: "file:line" of its binding.
        raises: the ids of the events that it raises, in the order known.
        declared: True if `raises` is complete: it was declared, or the handler can raise nothing (it is a query's, or a function
            without a parameter of type `Events`). False: these were seen while the app ran.
        module: the name of the `Module` that it was bound in, or None.
    """

    id: str
    name: str
    message: str
    runs: Literal["request", "event", "after_commit", "consumed"]
    where: str
    groups: tuple[str, ...] = ()
    raises: tuple[str, ...] = ()
    declared: bool = False
    module: str | None = None


class TopicInfo(Struct, frozen=True, kw_only=True):
    """A topic that the app publishes to or reads.

    Args:
        name: its name.
        partitions: as given by the app, or None: as many as it has.
        groups: the app's groups that read it.
    """

    name: str
    partitions: int | None = None
    groups: tuple[str, ...] = ()


class GroupInfo(Struct, frozen=True, kw_only=True):
    """A subscription of the app.

    Args:
        name: the group's name.
        topics: what it reads.
        concurrency: handlers that run at once.
        ordered: see `Subscription`.
        batch: messages that may share a transaction.
        attempts: tries before a message is a dead letter.
        timeout_seconds: for the handlers of one message.
    """

    name: str
    topics: tuple[str, ...]
    concurrency: int
    ordered: bool
    batch: int
    attempts: int
    timeout_seconds: float


class Description(Struct, frozen=True, kw_only=True):
    """An app as it is wired.

    Args:
        app: the app's name.
        storage: what kind of storage it has, such as "SqlStorage", or None.
        broker: what kind of broker, or None.
        roles: what this process does.
        messages: every class that is bound, declared or was seen.
        handlers: in the order bound.
        topics: those that it publishes to or reads.
        groups: its subscriptions.
        middlewares: names, the first outermost.
        event_middlewares: names, the first outermost.
    """

    app: str
    storage: str | None
    broker: str | None
    roles: tuple[str, ...]
    messages: tuple[MessageInfo, ...]
    handlers: tuple[HandlerInfo, ...]
    topics: tuple[TopicInfo, ...]
    groups: tuple[GroupInfo, ...]
    middlewares: tuple[str, ...] = ()
    event_middlewares: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True if of every handler it is known what it raises. Otherwise arrows may be missing that no run has shown yet."""
        return all(one.declared for one in self.handlers)

    @property
    def undeclared(self) -> tuple[HandlerInfo, ...]:
        """The handlers of which it is not known what else they raise."""
        return tuple(one for one in self.handlers if not one.declared)

    def message(self, id: str) -> MessageInfo:  # noqa: A002
        """The message with this id; `KeyError` if there is none."""
        for one in self.messages:
            if one.id == id:
                return one
        raise KeyError(id)

    def handlers_of(self, message: str) -> tuple[HandlerInfo, ...]:
        """The handlers that the message with this id reaches: its own, and those bound to a base class of it."""
        cls = self.message(message).cls
        return tuple(one for one in self.handlers if issubclass(cls, self.message(one.message).cls))

    def raised_by(self, message: str) -> tuple[HandlerInfo, ...]:
        """The handlers that raise the message with this id."""
        return tuple(one for one in self.handlers if message in one.raises)

    def to_data(self) -> dict[str, object]:
        """Plain values for JSON: everything but the classes themselves."""
        data: dict[str, object] = {
            name: getattr(self, name) for name in ("app", "storage", "broker")
        }
        data["roles"] = list(self.roles)
        data["complete"] = self.complete
        for name in ("messages", "handlers", "topics", "groups"):
            data[name] = [_plain(one) for one in getattr(self, name)]
        data["middlewares"] = list(self.middlewares)
        data["event_middlewares"] = list(self.event_middlewares)
        return data


class Consuming(Struct, frozen=True):
    """A subscription with group and topics settled, and its handlers."""

    subscription: Subscription
    bindings: tuple[Binding, ...]


def describe(
    *,
    app: str,
    storage: str | None,
    broker: str | None,
    roles: Iterable[str],
    requests: Sequence[Binding],
    events: Sequence[Binding],
    consuming: Sequence[Consuming],
    topics: Sequence[Topic],
    learnt: Callable[[Binding], tuple[type, ...]],
    modules: Callable[[Binding], str | None],
    middlewares: Iterable[object] = (),
    event_middlewares: Iterable[object] = (),
) -> Description:
    """Put together what an app is made of; see `Headrace.describe`."""
    found: dict[type, MessageInfo] = {}
    handlers: list[HandlerInfo] = []
    for binding in (*requests, *events):
        raised = binding.raises if binding.raises is not None else learnt(binding)
        # A class without a base of Headrace is what it was bound as.
        is_handled_as_request = len(handlers) < len(requests)
        found.setdefault(binding.message, message_info(binding.message, is_handled_as_request))
        for kind in raised:
            found.setdefault(kind, message_info(kind))
        groups = tuple(
            one.subscription.group or app for one in consuming if binding in one.bindings
        )
        handlers.append(
            HandlerInfo(
                id=stable_name(binding.handler),
                name=str(getattr(binding.handler, "__name__", binding.name)),
                message=found[binding.message].id,
                runs="request" if is_handled_as_request else _runs(binding, groups),
                groups=groups,
                where=binding.where,
                raises=tuple(found[kind].id for kind in raised),
                declared=binding.raises is not None or (not raised and raises_nothing(binding)),
                module=modules(binding),
            )
        )
    return Description(
        app=app,
        storage=storage,
        broker=broker,
        roles=tuple(sorted(roles)),
        messages=tuple(found.values()),
        handlers=tuple(handlers),
        topics=tuple(
            TopicInfo(
                name=topic.name,
                partitions=topic.partitions,
                groups=tuple(
                    one.subscription.group or app
                    for one in consuming
                    if topic.name in one.subscription.topics
                ),
            )
            for topic in topics
        ),
        groups=tuple(_group(one.subscription, app) for one in consuming),
        middlewares=tuple(_name(one) for one in middlewares),
        event_middlewares=tuple(_name(one) for one in event_middlewares),
    )


def raises_nothing(binding: Binding) -> bool:
    """True of a handler that has no way to raise an event: a query's, and a function that takes no `Events`."""
    if is_query(binding.message):
        return True
    if not binding.is_function:
        return False
    try:
        parameters = parameters_of(binding.handler, skip_first=True)
    except SignatureFault:
        return False  # one of the wiring faults
    return all(one.annotation is not Events for one in parameters)


def message_info(kind: type, request: bool = False) -> MessageInfo:
    """What a class of messages is; `request`: it is one, though its bases may not tell."""
    notification = _notification(kind)
    return MessageInfo(
        id=stable_name(kind),
        name=kind.__name__,
        kind=_kind(kind, notification, request),
        cls=kind,
        type=notification.type if notification is not None else None,
        topic=notification.topic if notification is not None else None,
        key=notification.key if notification is not None else None,
        doc=_doc(kind),
    )


def _kind(kind: type, notification: Notification | None, request: bool) -> MessageKind:
    if notification is not None:
        return "notification"
    if request or is_request(kind):
        return "query" if is_query(kind) else "command"
    return "domain event"


def _notification(kind: type) -> Notification | None:
    try:
        return notification_of(kind)
    except MessageDefinitionError:
        return None  # one of the wiring faults


def _runs(
    binding: Binding, groups: tuple[str, ...]
) -> Literal["event", "after_commit", "consumed"]:
    if binding.phase == "after_commit":
        return "after_commit"
    return "consumed" if groups or _notification(binding.message) is not None else "event"


def _group(subscription: Subscription, app: str) -> GroupInfo:
    return GroupInfo(
        name=subscription.group or app,
        topics=subscription.topics,
        concurrency=subscription.concurrency,
        ordered=subscription.ordered,
        batch=subscription.batch,
        attempts=subscription.retry.attempts,
        timeout_seconds=subscription.timeout_seconds,
    )


def _doc(kind: type) -> str:
    text = vars(kind).get("__doc__")
    # A dataclass without a docstring is given its signature as one.
    if not isinstance(text, str) or text.startswith(f"{kind.__name__}("):
        return ""
    return " ".join(text.strip().split("\n\n")[0].split())


def _name(middleware: object) -> str:
    named = (
        middleware
        if isinstance(middleware, type) or hasattr(middleware, "__qualname__")
        else type(middleware)
    )
    return str(getattr(named, "__qualname__", named))


def _plain(one: Struct) -> dict[str, object]:
    values: dict[str, object] = {
        name: getattr(one, name) for name in one.__struct_fields__ if name != "cls"
    }
    return {
        name: list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
