"""What a harness answers about the flow, and the tree that it draws of it."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import (
    Command,
    DomainEvent,
    Events,
    Headrace,
    Module,
    NotificationEvent,
    RequestMediator,
    Subscription,
)
from headrace.subscriptions import Retry
from headrace.testing import Answer, Harness
from tests.unit.heart import Announced, Join, Joined, Leave, make_app, raising


class Order(Command[None]):
    item: str


class Reserve(Command[None]):
    item: str


class Ordered(DomainEvent):
    item: str


class Counted(DomainEvent):
    item: str


class Shipped(NotificationEvent, type="shop.shipped.v1", topic="shop", key="item"):
    item: str


def shop(**settings: Any) -> Headrace:
    module = Module("shop")

    @module.handler
    async def order(request: Order, events: Events, mediator: RequestMediator) -> None:
        await mediator.send(Reserve(request.item))
        events.append(Ordered(request.item))

    @module.handler
    async def reserve(request: Reserve) -> None:
        if request.item == "none":
            raise LookupError("sold out")

    @module.handler
    async def ship(event: Ordered, events: Events) -> None:
        events.append(Shipped(event.item))

    @module.handler
    async def count(event: Ordered, events: Events) -> None:
        events.append(Counted(event.item))

    @module.handler
    async def thank(event: Shipped) -> None:
        if event.item == "poison":
            raise ValueError("no address")

    given: dict[str, Any] = {
        "storage": "memory://",
        "broker": "memory://",
        "unhandled": "ignore",
        "subscriptions": [
            Subscription(retry=Retry(attempts=2, initial_seconds=3600, max_seconds=1e4, jitter=0.0))
        ],
        **settings,
    }
    return Headrace("shop", modules=[module], **given)


async def test_the_flow_is_drawn_as_a_tree() -> None:
    """Command, handlers, events, what was published, who consumed it, retries, dead letters and holds: a line each."""
    async with Harness(shop()) as h:
        assert h.flow() == "nothing was sent"
        await h.send(Order("tea"))
        await h.settle()
        assert h.flow().splitlines() == [
            "Order(item='tea')  by order",
            "├─ Reserve(item='tea')  by reserve",
            "└─ Ordered(item='tea')",
            "   ├─ by ship",
            "   │  └─ Shipped(item='tea')  -> topic shop, key 'tea'",
            "   │     └─ shop: thank",
            "   └─ by count",
            "      └─ Counted(item='tea')  no handler",
        ]


async def test_the_flow_shows_retries_dead_letters_and_holds() -> None:
    """A failing message has a line for each try, and what became of it; what waits behind it says so."""
    async with Harness(shop()) as h:
        await h.send(Order("poison"))
        await h.settle()
        await h.send(Order("poison"))
        await h.settle()
        lines = [line.strip("│├└─ ") for line in h.flow().splitlines() if " shop: " in line]
        assert lines == [
            "shop: thank  failed: ValueError: no address",
            "shop: thank again 1 h later  failed: ValueError: no address",
            "shop: dead letter after 2 attempts",
            "shop: held behind the dead letter of key 'poison'",
        ]


async def test_the_flow_shows_what_was_rolled_back() -> None:
    """A send that failed says why, and what it had done is taken out of every answer."""
    async with Harness(shop()) as h:
        with pytest.raises(LookupError):
            await h.send(Order("none"))
        assert h.flow().splitlines() == [
            "Order(item='none')  by order  failed: LookupError: sold out",
            "└─ Reserve(item='none')  by reserve  failed: LookupError: sold out",
        ]
        assert h.sent(Reserve) == [Reserve("none")]
        assert h.raised(Ordered) == []


async def test_raised_and_handled_leave_out_what_was_rolled_back() -> None:
    """A handler that succeeded in a unit that failed later has handled nothing for good."""

    async def fine(event: Joined) -> None: ...

    async def fails(event: Joined) -> None:
        raise ValueError("no")

    app = make_app(
        (Join, raising(Joined("u1"))), (Joined, fine), (Joined, fails), storage="memory://"
    )
    async with Harness(app) as h:
        with pytest.raises(ValueError, match="no"):
            await h.send(Join())
        assert h.handled_by(fine) == []
        assert h.raised(Joined) == []
        assert "by fine  rolled back" in h.flow()
        assert "by fails  failed: ValueError: no" in h.flow()


async def test_a_savepoint_takes_back_its_own_part_alone() -> None:
    """What a nested send with a savepoint did is undone with it; what its caller did stays."""

    async def outer(request: Join, events: Events, mediator: RequestMediator) -> str:
        try:
            await mediator.send(Leave(), savepoint=True)
        except ValueError:
            events.append(Joined("stays"))
        return ""

    async def inner(request: Leave, events: Events) -> str:
        events.append(Joined("goes"))
        return ""

    async def picky(event: Joined) -> None:
        if event.user == "goes":
            raise ValueError("no")

    app = make_app((Join, outer), (Leave, inner), (Joined, picky), storage="memory://")
    async with Harness(app) as h:
        await h.send(Join())
        assert h.raised(Joined) == [Joined("stays")]
        assert h.handled_by(picky) == [Joined("stays")]
        assert h.sent(Leave) == [Leave()]


async def test_a_message_that_is_tried_again_counts_once() -> None:
    """handled_by has an event once, retried once for each further try."""
    tries: list[str] = []

    async def once_more(event: Announced) -> None:
        tries.append(event.user)
        if len(tries) == 1:
            raise ValueError("not yet")

    async def fine(event: Announced) -> None: ...

    app = make_app(
        (Join, raising(Announced("u1"))),
        (Announced, fine),
        (Announced, once_more),
        storage="memory://",
        broker="memory://",
    )
    async with Harness(app) as h:
        await h.send(Join())
        await h.settle()
        assert h.handled_by(fine) == [Announced("u1")]
        assert h.handled_by(once_more) == [Announced("u1")]
        assert h.retried(once_more) == [Announced("u1")]
        assert h.retried(fine) == []


async def test_a_body_that_does_not_fit_is_a_dead_letter_in_the_flow() -> None:
    """A dead letter without a try is shown with its error."""

    class Narrow(NotificationEvent, type="meetings.narrow.v1", topic="meetings"):
        number: int

    text: Any = "no number"

    async def wide(request: Join, events: Events) -> str:
        events.append(Narrow(number=text))
        return ""

    async def narrow(event: Narrow) -> None: ...

    app = make_app((Join, wide), (Narrow, narrow), storage="memory://", broker="memory://")
    async with Harness(app) as h:
        await h.send(Join())
        await h.settle()
        assert "└─ meetings: dead letter: DecodeError: " in h.flow()


async def test_an_app_without_units_is_recorded_too() -> None:
    """An app with neither storage nor broker has its flow drawn like any other."""

    async def seat(event: Joined) -> None: ...

    async with Harness(make_app((Join, raising(Joined("u1"))), (Joined, seat))) as h:
        assert await h.send(Join("u1")) == "u1"
        await h.settle()
        assert h.handled_by(seat) == [Joined("u1")]
        assert h.flow().splitlines()[1] == "└─ Joined(user='u1')  by seat"


async def test_many_sends_are_cut_to_the_last() -> None:
    """A long test's flow shows the last sends, and how many it leaves out."""
    async with Harness(make_app((Join, raising()))) as h:
        for number in range(25):
            await h.send(Join(f"u{number}"))
        lines = h.flow().splitlines()
        assert lines[0] == "(5 earlier sends are left out)"
        assert len(lines) == 21


def test_an_answer_is_a_list_and_tells_its_difference() -> None:
    """Answers equal lists of the same items; what is missing and what is there besides are told apart."""
    answer = Answer([1, 2], "published(X)")
    assert answer == [1, 2]
    assert answer.difference([2, 3]) == [
        "published(X) has others than these",
        "missing: 3",
        "besides: 1",
    ]
    assert answer.difference([2, 1])[0] == "published(X) has these, in another order:"
    assert Answer([], "sent(X)").difference([1])[0] == "sent(X) has none, not 1"
