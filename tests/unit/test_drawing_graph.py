"""The flow of an app as a graph, and as text: a tree, Mermaid."""

from __future__ import annotations

import pytest

from headrace import (
    Command,
    DomainEvent,
    Event,
    EventHandler,
    EventMap,
    Events,
    Headrace,
    NotificationEvent,
    Query,
    RequestMap,
    Subscription,
)
from headrace.drawing import graph_of, mermaid, tree
from headrace.drawing.graph import group_node, handler_node, message_node, topic_node
from headrace.errors import ConfigurationError
from headrace.signatures import stable_name


class Charge(Command[None]):
    order: str


class Show(Query[int]):
    order: str


class Charged(DomainEvent):
    order: str


class Retried(DomainEvent):
    order: str


class Taken(NotificationEvent, type="taken.v1", topic="payments", key="order"):
    order: str


class Packed(NotificationEvent, type="packed.v1", topic="orders", key="order"):
    order: str


async def charge(request: Charge, events: Events) -> None:
    pass


async def show(request: Show) -> int:
    return 1


async def announce(event: Charged, events: Events) -> None:
    pass


async def again(event: Retried, events: Events) -> None:
    pass


async def note(event: Event) -> None:
    pass


async def later(event: Charged) -> None:
    pass


async def pack(event: Taken, events: Events) -> None:
    pass


async def recharge(event: Packed, events: Events) -> None:
    pass


class Undeclared(EventHandler[Charged]):
    async def handle(self, event: Charged) -> None:
        pass


def app(*, undeclared: bool = True) -> Headrace:
    requests, events = RequestMap(), EventMap()
    requests.bind(Charge, charge, raises=[Charged])
    requests.bind(Show, show)
    events.bind(Charged, announce, raises=[Taken])
    events.bind(Charged, later, phase="after_commit")
    if undeclared:
        events.bind(Charged, Undeclared)
    events.bind(Retried, again, raises=[Retried, Charged])
    events.bind(Taken, pack, raises=[Packed])
    events.bind(Packed, recharge, raises=[Charged, Retried])
    return Headrace(
        "shop",
        requests=requests,
        events=events,
        storage="memory://",
        broker="memory://",
        subscriptions=[
            Subscription(group="billing", topics=("orders",), ordered=False),
            Subscription(group="packing", topics=("payments",), batch=5),
        ],
    )


TREE = """\
shop (MemoryStorage, MemoryBroker)

Charge  command
└── charge  HERE
    └── Charged  domain event
        ├── announce  HERE
        │   └── Taken  notification, key order
        │       └── payments  topic
        │           └── packing  group, batch 5
        │               └── pack  HERE
        │                   └── Packed  notification, key order
        │                       └── orders  topic
        │                           └── billing  group, unordered
        │                               └── recharge  HERE
        │                                   ├── Charged  domain event, leads back to itself
        │                                   └── Retried  domain event
        │                                       └── again  HERE
        │                                           ├── Retried  domain event, leads back to itself
        │                                           └── Charged  domain event, leads back to itself
        └── later  after commit, HERE

Show  query
└── show  HERE
"""


def test_the_tree_leads_from_each_request_to_all_that_follows() -> None:
    """Through topics and groups, and no further than once round a circle."""
    import re

    text = tree.text_of(graph_of(app(undeclared=False).describe()))
    assert re.sub(r"\S+test_drawing_graph\.py:\d+", "HERE", text) == TREE


def test_what_was_shown_once_is_not_shown_again() -> None:
    """An event that two handlers raise has its tree below the first."""
    requests, events = RequestMap(), EventMap()
    requests.bind(Charge, charge, raises=[Charged])
    requests.bind(Show, show, raises=[])
    events.bind(Charged, later)
    events.bind(Retried, again, raises=[Charged])
    one = Headrace("shop", requests=requests, events=events)
    text = tree.text_of(graph_of(one.describe()))
    assert text.count("Charged  domain event") == 2
    assert text.count("Charged  domain event, see above") == 1
    assert text.count("later") == 1


def test_what_may_be_missing_is_named() -> None:
    """Of a handler without a declaration nobody knows what it raises."""
    graph = graph_of(app().describe())
    assert graph.undeclared == ("Undeclared",)
    assert "is not declared: Undeclared." in graph.missing
    assert graph.missing in tree.text_of(graph)
    assert graph_of(app(undeclared=False).describe()).missing == ""


def test_ids_are_those_that_a_page_can_make_by_itself() -> None:
    """Of messages, handlers, topics and groups; without blanks, because an arrow's id has one between two of them."""
    graph = graph_of(app().describe())
    charged, taken = stable_name(Charged), stable_name(Taken)
    expected = {
        message_node(charged),
        handler_node(stable_name(announce), charged),
        handler_node(stable_name(pack), taken, "packing"),
        topic_node("payments"),
        group_node("packing"),
    }
    assert expected <= graph.nodes.keys()
    assert all(" " not in id for id in graph.nodes)
    assert all(edge.source in graph.nodes and edge.target in graph.nodes for edge in graph.edges)
    assert f"t:payments {group_node('packing')}" in {edge.id for edge in graph.edges}


def test_a_base_class_stands_for_the_messages_below_it() -> None:
    """Its handler is one of each of them; the base itself is no message of the flow."""
    requests, events = RequestMap(), EventMap()
    requests.bind(Charge, charge, raises=[Charged, Retried])
    events.bind(Event, note)
    graph = graph_of(Headrace("shop", requests=requests, events=events).describe())
    assert [node.name for node in graph.of_kind("event")] == ["Charged", "Retried"]
    assert [node.message for node in graph.of_kind("handler") if node.name == "note"] == [
        message_node(stable_name(Charged)),
        message_node(stable_name(Retried)),
    ]


def test_messages_of_one_name_are_told_apart() -> None:
    """By what stands before the name."""

    class Other:
        class Charged(DomainEvent):
            order: str

    requests, events = RequestMap(), EventMap()
    requests.bind(Charge, charge, raises=[Charged, Other.Charged])
    graph = graph_of(Headrace("shop", requests=requests, events=events).describe())
    names = [node.name for node in graph.of_kind("event")]
    assert len(set(names)) == 2
    assert names[1] == "Other.Charged"


def test_from_one_message_only_what_it_leads_to() -> None:
    """Behind a topic the handlers of other messages of it are left out."""
    whole = app().describe()
    graph = graph_of(whole, command="Packed")
    assert "Charge" not in {node.name for node in graph.nodes.values()}
    assert {"billing", "recharge", "again"} <= {node.name for node in graph.nodes.values()}
    assert {node.name for node in graph_of(whole, command="Show").nodes.values()} == {
        "Show",
        "show",
    }


def test_an_unknown_message_names_those_that_are_near() -> None:
    """Somebody has misspelt it."""
    with pytest.raises(ConfigurationError, match="Did you mean Charge"):
        graph_of(app().describe(), command="Chagre")


def test_mermaid_has_every_node_and_arrow() -> None:
    """With quotes and angles escaped, and what may be missing as a comment."""
    graph = graph_of(app().describe())
    text = mermaid.text_of(graph)
    assert text.startswith("flowchart LR\n  %% What these handlers raise")
    assert text.count("-->") == len(graph.edges)
    assert 'n0["Charge"]:::command' in text
    assert '[("payments")]:::topic' in text
    assert '-->|"outbox"|' in text
