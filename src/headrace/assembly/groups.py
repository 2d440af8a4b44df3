"""Which handlers consume which topics in which group: subscriptions worked out from bindings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

from msgspec import Struct

from headrace.bindings import Binding
from headrace.broker import Reading, Topic
from headrace.errors import MessageDefinitionError
from headrace.maps import EventMap
from headrace.module import Module
from headrace.notifications import Notification, notification_of
from headrace.storage import group_queue
from headrace.subscriptions import Subscription

MOST_NAME = 200
"""Characters of the name of an app or a group: what columns of databases hold of it."""

_MOST_QUEUE = 255


class Group(Struct, frozen=True):
    """One subscription with its group and topics settled, and the handlers that run in it."""

    subscription: Subscription
    events: EventMap
    types: dict[str, type]
    """Event classes by their type literal."""

    @property
    def name(self) -> str:
        """The group's name."""
        return self.subscription.group or ""


def plan_groups(
    app: str,
    events: EventMap,
    modules: Sequence[Module],
    subscriptions: Sequence[Subscription],
    requests: Sequence[Binding] = (),
) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """The groups of an app, and the faults found on the way.

    A module's handlers run in the module's own subscriptions that cover the topic, else in the app's, else in the default
    one: the group has the app's name, the topic is the event's. A handler bound to a base class consumes every notification
    below it that is bound somewhere or declared by `raises=`, also by the handlers of requests.
    """
    sources = [(events.bindings, tuple(subscriptions))]
    sources += [(m.events.bindings, (*_own(m), *subscriptions)) for m in modules]
    default = Subscription(group=app)
    chosen: dict[Subscription, list[Binding]] = {}
    topics: dict[Subscription, dict[str, None]] = {}
    everything = [*(b for bindings, _ in sources for b in bindings), *requests]
    for bindings, candidates in sources:
        for binding, topic in _consumed(bindings, everything):
            for subscription in _covering(candidates, topic) or [default]:
                chosen.setdefault(subscription, []).append(binding)
                topics.setdefault(subscription, {})[topic] = None
    given = [*subscriptions, *(s for m in modules for s in _own(m))]
    groups = tuple(_group(app, s, found, topics[s], everything) for s, found in chosen.items())
    return groups, tuple(_faults(app, given, topics, groups))


def topics_of(
    given: Iterable[Topic], groups: Iterable[Group], bindings: Iterable[Binding]
) -> tuple[Topic, ...]:
    """Every topic that is read or that bindings name, with the settings given for it."""
    names = [topic for group in groups for topic in group.subscription.topics]
    for binding in bindings:
        for kind in (binding.message, *(binding.raises or ())):
            notification = notification_of(kind)
            if notification is not None:
                names.append(notification.topic)
    settings = {topic.name: topic for topic in given}
    return tuple({**{name: Topic(name) for name in names}, **settings}.values())


def types_of(bindings: Iterable[Binding]) -> dict[str, type]:
    """The classes of all notifications that bindings name, by type literal."""
    return {notification.type: kind for kind, notification in _known(bindings).items()}


def readings_of(groups: Iterable[Group]) -> tuple[Reading, ...]:
    """Which group reads which topic."""
    return tuple(
        Reading(group.name, topic) for group in groups for topic in group.subscription.topics
    )


def _own(module: Module) -> tuple[Subscription, ...]:
    return cast(
        "tuple[Subscription, ...]", module.subscriptions
    )  # a module stands too early in the rows to know the type


def _consumed(
    bindings: Iterable[Binding], everything: Sequence[Binding]
) -> Iterable[tuple[Binding, str]]:
    """Bindings that run where a notification is consumed, with each topic: also those of base classes."""
    known = _known(everything)
    for binding in bindings:
        if binding.phase == "after_commit":
            continue  # of domain events alone, also if its base class has notifications below it
        for kind, notification in known.items():
            if issubclass(kind, binding.message):
                yield binding, notification.topic


def _known(bindings: Iterable[Binding]) -> dict[type, Notification]:
    """All notifications that bindings name."""
    found: dict[type, Notification] = {}
    for binding in bindings:
        for kind in (binding.message, *(binding.raises or ())):
            try:
                notification = notification_of(kind)
            except MessageDefinitionError:
                continue  # one of the wiring faults
            if notification is not None:
                found[kind] = notification
    return found


def _covering(candidates: Sequence[Subscription], topic: str) -> list[Subscription]:
    named = [s for s in candidates if topic in s.topics]
    return named or [s for s in candidates if not s.topics][:1]


def _group(
    app: str,
    subscription: Subscription,
    bindings: Sequence[Binding],
    topics: Iterable[str],
    everything: Sequence[Binding],
) -> Group:
    events = EventMap.of(dict.fromkeys(bindings))
    read = tuple(topics)
    types = {
        notification.type: kind
        for kind, notification in _known(everything).items()
        if notification.topic in read and events.handlers_of(kind)
    }
    settled = replace(subscription, group=subscription.group or app, topics=read)
    return Group(settled, events, types)


def _faults(
    app: str,
    given: Sequence[Subscription],
    topics: dict[Subscription, dict[str, None]],
    groups: Sequence[Group],
) -> Iterable[str]:
    for subscription in given:
        if not subscription.topics and subscription not in topics:
            yield (
                f"Subscription(group={subscription.group or app!r}) covers nothing: no handler is bound to a notification that "
                f"is not covered by an earlier one. Remove it, or name its topics."
            )
        for topic in subscription.topics:
            if topic not in topics.get(subscription, {}):
                yield (
                    f"Subscription(group={subscription.group or app!r}) names the topic {topic!r}, but no handler is bound to a "
                    f"notification of that topic. Bind one, or remove the topic."
                )
    seen: set[tuple[str, str]] = set()
    for group in groups:
        if len(group.name) > MOST_NAME:
            yield (
                f"the name of the group {group.name!r} has {len(group.name)} characters. Storage keeps at most {MOST_NAME}: "
                f"give it a shorter one."
            )
        for topic in group.subscription.topics:
            length = len(group_queue(group.name, topic))
            if length > _MOST_QUEUE:
                yield (
                    f"the group {group.name!r} reads the topic {topic!r}. Storage keeps both names as one, of at most "
                    f"{_MOST_QUEUE} characters, and these have {length} together: give the group a shorter one."
                )
            if (group.name, topic) in seen:
                yield (
                    f"two subscriptions of the group {group.name!r} read the topic {topic!r}. Within a group each message is "
                    f"handled once: merge them, or give one another group."
                )
            seen.add((group.name, topic))
