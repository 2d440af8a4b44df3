"""The description of an app: what everything that shows an app reads."""

from __future__ import annotations

import json

from headrace import (
    Command,
    DomainEvent,
    Event,
    EventHandler,
    EventMap,
    Events,
    Headrace,
    Module,
    NotificationEvent,
    Query,
    RequestMap,
    Subscription,
    Topic,
)
from headrace.description import Description


class Join(Command[None]):
    """Somebody joins.

    And more.
    """

    meeting: str


class Count(Query[int]):
    meeting: str


class Joined(DomainEvent):
    meeting: str


class JoinedTold(NotificationEvent, type="joined.v1", topic="meetings", key="meeting"):
    meeting: str


class Foreign:
    pass


async def join(request: Join, events: Events) -> None:
    events.append(Joined(request.meeting))


async def count(request: Count) -> int:
    return len(request.meeting)


async def tell(event: Joined, events: Events) -> None:
    events.append(JoinedTold(event.meeting))


async def audit(event: Event) -> None:
    pass


async def listen(event: JoinedTold) -> None:
    pass


async def foreign(request: Foreign) -> None:
    pass


def app(**settings: object) -> Headrace:
    requests, events, module = RequestMap(), EventMap(), Module("telling")
    requests.bind(Join, join)
    requests.bind(Count, count, raises=[])
    requests.bind(Foreign, foreign, raises=[])  # type: ignore[call-overload]
    events.bind(Joined, audit, phase="after_commit", raises=[])
    module.bind(Joined, tell, raises=[JoinedTold])
    module.bind(JoinedTold, listen, raises=[])
    return Headrace(
        "shop",
        requests=requests,
        events=events,
        modules=[module],
        broker="memory://",
        subscriptions=[Subscription(group="readers", batch=5)],
        topics=[Topic("meetings", partitions=3)],
        **settings,  # type: ignore[arg-type]
    )


def named(description: Description) -> dict[str, str]:
    return {one.name: one.kind for one in description.messages}


def test_every_message_is_there_with_its_kind() -> None:
    """A foreign class is what it was bound as."""
    assert named(app().describe()) == {
        "Join": "command",
        "Count": "query",
        "Foreign": "command",
        "Joined": "domain event",
        "JoinedTold": "notification",
    }


def test_a_notification_tells_type_topic_and_key() -> None:
    """The name of the key's field is kept for people."""
    (told,) = [one for one in app().describe().messages if one.name == "JoinedTold"]
    assert (told.type, told.topic, told.key) == ("joined.v1", "meetings", "meeting")


def test_a_handler_tells_where_it_runs_and_who_bound_it() -> None:
    """Request, event, after the commit, or in groups."""
    found = {one.name: one for one in app().describe().handlers}
    assert {name: one.runs for name, one in found.items()} == {
        "join": "request",
        "count": "request",
        "foreign": "request",
        "audit": "after_commit",
        "tell": "event",
        "listen": "consumed",
    }
    assert found["listen"].groups == ("readers",)
    assert (found["tell"].module, found["audit"].module) == ("telling", None)
    assert "test_description.py:" in found["join"].where


def test_groups_and_topics_are_there_with_their_settings() -> None:
    """As the subscription and the topic were given."""
    description = app().describe()
    (topic,), (group,) = description.topics, description.groups
    assert (topic.name, topic.partitions, topic.groups) == ("meetings", 3, ("readers",))
    assert (group.name, group.topics, group.batch, group.attempts) == (
        "readers",
        ("meetings",),
        5,
        5,
    )


async def test_what_is_not_declared_is_learnt_and_until_then_incomplete() -> None:
    """An arrow appears when the handler has raised the event."""
    one = app()
    joining = next(h for h in one.describe().handlers if h.name == "join")
    assert (joining.raises, joining.declared) == ((), False)
    async with one:
        await one.send(Join("m1"))
    joining = next(h for h in one.describe().handlers if h.name == "join")
    assert [one.describe().message(id).name for id in joining.raises] == ["Joined"]
    assert not one.describe().complete
    assert [h.name for h in one.describe().undeclared] == ["join"]


def test_a_handler_that_can_raise_nothing_is_complete_without_a_declaration() -> None:
    """That of a query, and a function that takes no `Events`; a class may always append."""

    class Told(EventHandler[Joined]):
        async def handle(self, event: Joined) -> None:
            pass

    requests, events = RequestMap(), EventMap()
    requests.bind(Count, count)
    events.bind(Joined, audit)
    events.bind(Joined, tell)
    events.bind(Joined, Told)
    description = Headrace("shop", requests=requests, events=events, broker="memory://").describe()
    assert [one.name for one in description.undeclared] == ["tell", "Told"]


def test_a_message_reaches_handlers_of_its_bases() -> None:
    """A handler of `Event` is one of each event's handlers."""
    requests, events = RequestMap(), EventMap()
    requests.bind(Join, join, raises=[Joined])
    events.bind(Event, audit, raises=[])
    description = Headrace("shop", requests=requests, events=events).describe()
    joined = next(one for one in description.messages if one.name == "Joined")
    assert [one.name for one in description.handlers_of(joined.id)] == ["audit"]
    assert description.complete


def test_only_the_first_paragraph_of_a_docstring_is_shown_and_no_generated_one() -> None:
    """A dataclass has a docstring that nobody wrote."""
    docs = {one.name: one.doc for one in app().describe().messages}
    assert (docs["Join"], docs["Joined"]) == ("Somebody joins.", "")


def test_it_can_be_written_as_json() -> None:
    """Classes are left out."""
    data = json.loads(json.dumps(app().describe().to_data()))
    assert data["complete"] is False
    assert {one["name"] for one in data["handlers"]} >= {"join", "tell"}
    assert all("cls" not in one for one in data["messages"])
