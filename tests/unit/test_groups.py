"""Groups: which handlers consume which topics, worked out from bindings and subscriptions."""

from headrace import (
    Event,
    EventMap,
    Module,
    NotificationEvent,
    RequestMap,
    Subscription,
    notification,
)
from headrace.assembly.groups import Group, plan_groups
from tests.unit.heart import Announced, Join, Joined, raising


class Shipped(NotificationEvent, type="shop.shipped.v1", topic="shop"):
    pass


class Audited(Event):
    pass


@notification(type="audit.paid.v1", topic="audit")
class Paid(Audited):
    pass


def plan(
    *bound: type, subscriptions: tuple[Subscription, ...] = (), modules: tuple[Module, ...] = ()
) -> tuple[Group, ...]:
    events = EventMap()
    for event in bound:
        events.bind(event, raising())
    groups, faults = plan_groups("app", events, modules, subscriptions)
    assert not faults
    return groups


def shape(groups: tuple[Group, ...]) -> list[tuple[str, tuple[str, ...], list[str]]]:
    return [(g.name, g.subscription.topics, sorted(g.types)) for g in groups]


def test_binding_a_notification_makes_the_default_subscription() -> None:
    """Section 2: the group has the app's name and reads the topics of the bound notifications; domain events need none."""
    assert shape(plan(Announced, Shipped, Joined)) == [
        ("app", ("meetings", "shop"), ["meetings.announced.v1", "shop.shipped.v1"])
    ]
    assert plan(Joined) == ()


def test_a_subscription_refines_its_topics_and_leaves_the_rest() -> None:
    """Section 2: a subscription takes the topics that it names; other topics stay with the default."""
    found = plan(Announced, Shipped, subscriptions=(Subscription(group="slow", topics=("shop",)),))
    assert sorted(shape(found)) == [
        ("app", ("meetings",), ["meetings.announced.v1"]),
        ("slow", ("shop",), ["shop.shipped.v1"]),
    ]


def test_several_groups_may_read_one_topic() -> None:
    """G8: each group that names a topic runs the handlers of its notifications."""
    one, two = (Subscription(group=g, topics=("shop",)) for g in ("one", "two"))
    assert [g.name for g in plan(Shipped, subscriptions=(one, two))] == ["one", "two"]


def test_a_module_has_subscriptions_of_its_own() -> None:
    """Section 2: a module's handlers run in the module's own subscription, others in the app's."""
    module = Module("billing", subscriptions=[Subscription(group="billing")])
    module.bind(Shipped, raising())
    assert sorted(shape(plan(Shipped, modules=(module,)))) == [
        ("app", ("shop",), ["shop.shipped.v1"]),
        ("billing", ("shop",), ["shop.shipped.v1"]),
    ]


def test_a_handler_of_a_base_class_consumes_the_notifications_below_it() -> None:
    """G3: a handler bound to a base class runs for its notifications, also when they are bound elsewhere."""
    module = Module("audit", subscriptions=[Subscription(group="audit")])
    module.bind(Audited, raising())
    found = {name: types for name, _, types in shape(plan(Paid, modules=(module,)))}
    assert found == {"app": ["audit.paid.v1"], "audit": ["audit.paid.v1"]}


@notification(type="elsewhere.paid.v1", topic="elsewhere")
class PaidElsewhere(Audited):
    pass


def test_a_group_knows_only_the_types_of_its_topics() -> None:
    """G14: a base class's handler in a group with named topics takes no notification of other topics."""
    module = Module("audit", subscriptions=[Subscription(group="audit", topics=("audit",))])
    module.bind(Audited, raising())
    found = plan(Paid, PaidElsewhere, modules=(module,))
    (audit,) = [g for g in found if g.name == "audit"]
    assert (audit.subscription.topics, sorted(audit.types)) == (("audit",), ["audit.paid.v1"])


def test_declared_notifications_are_known_too() -> None:
    """Section 2: a notification that a request's handler declares by raises= is consumed by a handler of its base class."""
    requests, events = RequestMap(), EventMap()
    requests.bind(Join, raising(), raises=[Paid])
    events.bind(Audited, raising())
    groups, faults = plan_groups("app", events, (), (), requests.bindings)
    assert not faults
    assert shape(groups) == [("app", ("audit",), ["audit.paid.v1"])]


def test_after_commit_handlers_consume_nothing() -> None:
    """A handler of a base class that runs after the commit is no reason to read the topics of notifications below it."""
    events = EventMap()
    events.bind(Audited, raising(), phase="after_commit")
    events.bind(Paid, raising())
    (group,), _ = plan_groups("app", events, (), ())
    assert [binding.phase for binding in group.events.bindings] == ["in_transaction"]


def test_names_that_no_database_would_keep_are_faults() -> None:
    """G12: found before anything starts, and not by a consumer that is paused for ever."""

    @notification(type="shop.far.v1", topic="t" * 240)
    class Far(Event):
        pass

    def faults(group: str, event: type) -> tuple[str, ...]:
        events = EventMap()
        events.bind(event, raising())
        return plan_groups("app", events, (), [Subscription(group=group)])[1]

    assert not faults("g" * 8, Far)
    (together,) = faults("g" * 9, Far)
    assert "at most 255 characters, and these have 256 together" in together
    assert not faults("g" * 200, Shipped)
    (alone,) = faults("g" * 201, Shipped)
    assert "has 201 characters. Storage keeps at most 200" in alone
