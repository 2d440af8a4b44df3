"""Units of work opened by hand: a block in the place of a handler, with the same rules (G4)."""

import asyncio
import re
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace import (
    Command,
    DomainEvent,
    Envelope,
    Events,
    Headrace,
    Module,
    NotificationEvent,
    Query,
    RequestMediator,
)
from headrace.drivers.sql import SqlStorage
from headrace.errors import (
    AppNotRunning,
    BindingError,
    ConcurrentUnitOfWork,
    EnvelopeError,
    QueryRaisedEvent,
    UnitOfWorkClosed,
    UnitOfWorkError,
)

metadata = MetaData()
orders = Table("orders", metadata, Column("number", String, primary_key=True))


class Place(Command[str]):
    number: str


class Count(Query[int]):
    pass


class Outer(Command[int]):
    fail: bool = False


class Placed(DomainEvent):
    number: str


class Accepted(NotificationEvent, type="orders.accepted.v1", topic="orders", key="number"):
    number: str


class Basket:
    """A request-scoped dependency, with the session that the unit gives it."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session


class Clerk:
    """The app under test and what its handlers saw."""

    def __init__(self, path: Path) -> None:
        self.baskets: list[Basket] = []
        self.accepted: list[tuple[str, str | None, str | None]] = []
        module = Module("orders", providers=[Basket])

        @module.handler
        async def place(request: Place, basket: Basket, events: Events) -> str:
            self.baskets.append(basket)
            await basket.session.execute(insert(orders).values(number=request.number))
            events.append(Placed(request.number))
            return request.number

        @module.handler
        async def accept(event: Placed, events: Events) -> None:
            events.append(Accepted(event.number))

        @module.handler
        async def note(event: Accepted, envelope: Envelope) -> None:
            tenant = envelope.metadata.get("tenant")
            self.accepted.append((event.number, envelope.correlationid, tenant))

        @module.handler
        async def count(request: Count, session: AsyncSession) -> int:
            return len((await session.scalars(select(orders.c.number))).all())

        @module.handler
        async def outer(request: Outer, mediator: RequestMediator) -> int:
            try:
                async with self.app.unit_of_work() as unit:
                    await unit.send(Place(f"inner {request.fail}"))
                    if request.fail:
                        raise LookupError("inside")
            except LookupError:
                pass
            return await mediator.send(Count())

        self.app = Headrace(
            "orders",
            modules=[module],
            storage=SqlStorage(f"sqlite+aiosqlite:///{path}", metadata=metadata),
            broker="sql://",
        )

    async def numbers(self) -> list[str]:
        """What is accepted, when all has settled."""
        await self.app.settle()
        return sorted(number for number, _, _ in self.accepted)


@pytest.fixture
def clerk(tmp_path: Path) -> Clerk:
    return Clerk(tmp_path / "orders.db")


async def test_all_of_a_block_commits_when_it_ends(clerk: Clerk) -> None:
    """G4: sends through the unit and through the app, the block's own statements and events are one transaction."""
    async with clerk.app:
        async with clerk.app.unit_of_work(correlation_id="c1", metadata={"tenant": "acme"}) as unit:
            session = await unit.get(AsyncSession)
            await session.execute(insert(orders).values(number="own"))
            assert await unit.send(Place("sent")) == "sent"
            await clerk.app.send(Place("by the app"))
            unit.events.append(Placed("raised"))
            assert unit.envelope.correlationid == "c1"
            assert await clerk.app.send(Count()) == 3
            status = await clerk.app.status()
            assert status.outbox is not None
            assert status.outbox.ready == 0  # nothing is stored before the block has ended
        assert await clerk.numbers() == ["by the app", "raised", "sent"]
        assert await clerk.app.send(Count()) == 3
    assert {(c, t) for _, c, t in clerk.accepted} == {("c1", "acme")}


async def test_one_session_and_one_scope_are_shared_with_the_handlers(clerk: Clerk) -> None:
    """G4: what `get` answers is what the handlers of the block are given, and the same object each time."""
    async with clerk.app, clerk.app.unit_of_work() as unit:
        basket = await unit.get(Basket)
        await unit.send(Place("1"))
        assert clerk.baskets == [basket]
        assert basket.session is await unit.get(AsyncSession)
        assert await unit.get(Events) is unit.events
        assert await unit.get(Envelope) == unit.envelope
        assert isinstance(await unit.get(RequestMediator), RequestMediator)


async def test_a_block_that_raises_leaves_nothing(clerk: Clerk) -> None:
    """G4: an error in the block rolls all back, announces nothing, and comes out as it is."""
    async with clerk.app:
        with pytest.raises(LookupError, match="mine"):  # noqa: PT012 - the block raises at its end
            async with clerk.app.unit_of_work() as unit:
                await unit.send(Place("1"))
                unit.events.append(Placed("2"))
                raise LookupError("mine")
        assert await clerk.app.send(Count()) == 0
        assert await clerk.numbers() == []


async def test_a_failed_send_dooms_the_block_even_if_it_is_caught(clerk: Clerk) -> None:
    """G4: after a nested send has failed nothing commits, and the first error comes out of the block."""
    async with clerk.app:
        with pytest.raises(IntegrityError):  # noqa: PT012 - the block raises at its end
            async with clerk.app.unit_of_work() as unit:
                await unit.send(Place("1"))
                with pytest.raises(IntegrityError):
                    await unit.send(Place("1"))
        assert await clerk.app.send(Count()) == 0


async def test_a_savepoint_makes_a_failed_send_recoverable(clerk: Clerk) -> None:
    """G4: what a send with savepoint=True did is undone alone, with its events."""
    async with clerk.app:
        async with clerk.app.unit_of_work() as unit:
            await unit.send(Place("1"))
            with pytest.raises(IntegrityError):
                await unit.send(Place("1"), savepoint=True)
        assert await clerk.numbers() == ["1"]


async def test_a_handler_of_an_event_may_end_the_block(clerk: Clerk) -> None:
    """G2, G3: events of the block are dispatched when it has ended; an error then undoes all of it."""

    async def refuse(event: Placed) -> None:
        raise ValueError(f"no {event.number}")

    module = Module("strict")
    module.bind(Placed, refuse)
    async with Headrace("strict", modules=[module], storage="memory://") as app:
        seen = False
        with pytest.raises(ValueError, match="no 1"):  # noqa: PT012 - the block raises at its end
            async with app.unit_of_work() as unit:
                unit.events.append(Placed("1"))
                seen = True
        assert seen


async def test_a_block_in_a_handler_is_a_part_of_its_unit(clerk: Clerk) -> None:
    """G4: inside a running unit the block joins it, the commit is the outermost's, and an error that is caught dooms it."""
    async with clerk.app:
        assert await clerk.app.send(Outer()) == 1
        with pytest.raises(LookupError, match="inside"):
            await clerk.app.send(Outer(fail=True))
        assert await clerk.numbers() == ["inner False"]


async def test_a_read_only_block_writes_nothing(clerk: Clerk) -> None:
    """G4: read_only=True is a query's unit: queries join, a command and an event are errors, a block that writes too."""
    async with clerk.app:
        async with clerk.app.unit_of_work(read_only=True) as unit:
            assert await unit.send(Count()) == 0
            with pytest.raises(UnitOfWorkError, match="inside UnitOpenedByHand, whose unit of"):
                await unit.send(Place("1"))
            with pytest.raises(UnitOfWorkError, match="open"):
                async with clerk.app.unit_of_work():
                    pass
            async with clerk.app.unit_of_work(read_only=True) as inner:
                assert await inner.send(Count()) == 0
        with pytest.raises(QueryRaisedEvent, match=re.escape("Leave read_only=True out")):
            async with clerk.app.unit_of_work(read_only=True) as unit:
                unit.events.append(Placed("1"))
        with pytest.raises(QueryRaisedEvent, match=re.escape("Leave read_only=True out")):
            async with clerk.app.unit_of_work(), clerk.app.unit_of_work(read_only=True) as inner:
                inner.events.append(Placed("1"))


async def test_a_unit_is_closed_when_its_block_has_ended(clerk: Clerk) -> None:
    """G4: a unit that is kept sends nothing, and gives no session."""
    async with clerk.app:
        async with clerk.app.unit_of_work() as unit:
            pass
        with pytest.raises(UnitOfWorkClosed, match=re.escape("the send of Count came after")):
            await unit.send(Count())
        with pytest.raises(UnitOfWorkClosed, match=re.escape("get(AsyncSession) came after")):
            await unit.get(AsyncSession)
        with pytest.raises(UnitOfWorkClosed, match=re.escape("an event came after")):
            unit.events.append(Placed("1"))
        async with clerk.app.unit_of_work():
            async with clerk.app.unit_of_work() as inner:
                pass
            with pytest.raises(UnitOfWorkClosed, match="an event came after"):
                inner.events.append(Placed("1"))


async def test_another_task_does_not_join_the_block(clerk: Clerk) -> None:
    """G4: a unit is the task's that opened it; a send beside it is refused and nothing of it is kept."""
    async with clerk.app:
        async with clerk.app.unit_of_work() as unit:
            with pytest.raises(ConcurrentUnitOfWork):
                await asyncio.create_task(unit.send(Place("1")))
        assert await clerk.app.send(Count()) == 0


async def test_a_cancelled_block_leaves_nothing(clerk: Clerk) -> None:
    """G3, G4: a cancellation in the block rolls back and goes on."""
    entered = asyncio.Event()

    async def work() -> None:
        async with clerk.app.unit_of_work() as unit:
            await unit.send(Place("1"))
            entered.set()
            await asyncio.Event().wait()

    async with clerk.app:
        task = asyncio.create_task(work())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await clerk.app.send(Count()) == 0


async def test_a_block_needs_a_running_app(clerk: Clerk) -> None:
    """Section 2: before the start and after the stop no unit is opened, and the error says where to open it."""
    with pytest.raises(AppNotRunning, match="in the lifespan"):
        clerk.app.unit_of_work()
    async with clerk.app:
        pass
    with pytest.raises(AppNotRunning, match="in the lifespan"):
        clerk.app.unit_of_work()


async def test_a_stop_waits_for_an_open_block(clerk: Clerk) -> None:
    """G10: a block that is open when the app stops may finish, with its sends; a new one is refused."""
    stopping = asyncio.Event()

    async def work() -> str:
        async with clerk.app.unit_of_work() as unit:
            stopping.set()
            while not clerk.app._parts.mediator.refusing:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0)
            return await unit.send(Place("late"))

    async def late() -> None:
        while not clerk.app._parts.mediator.refusing:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
        with pytest.raises(AppNotRunning, match="is stopping"):
            async with clerk.app.unit_of_work():
                pass

    async with clerk.app:
        open_one, refused = asyncio.create_task(work()), asyncio.create_task(late())
        await stopping.wait()
    assert await open_one == "late"
    await refused


async def test_what_nothing_provides_is_named(clerk: Clerk) -> None:
    """Section 2: `get` of a type that nobody provides says where to provide it."""
    async with clerk.app, clerk.app.unit_of_work() as unit:
        with pytest.raises(BindingError, match=re.escape("unit.get(Clerk): nothing provides it")):
            await unit.get(Clerk)


async def test_metadata_is_checked_before_anything_is_done(clerk: Clerk) -> None:
    """G14: names that cannot travel are refused when the block is entered."""
    async with clerk.app:
        with pytest.raises(EnvelopeError, match="tenant"):
            async with clerk.app.unit_of_work(metadata={"tenant-id": "acme"}):
                pass


async def test_a_block_works_without_anything_to_commit() -> None:
    """An app without storage and broker has nothing to commit; sends and events of a block run all the same."""
    heard: list[str] = []
    module = Module("bare")

    @module.handler
    async def place(request: Place, events: Events) -> str:
        events.append(Placed(request.number))
        return request.number

    @module.handler
    async def hear(event: Placed) -> None:
        heard.append(event.number)

    async with Headrace("bare", modules=[module]) as app:
        async with app.unit_of_work() as unit:
            assert await unit.send(Place("1")) == "1"
            unit.events.append(Placed("2"))
            assert heard == ["1"]
        assert heard == ["1", "2"]


async def test_what_the_opener_brings_is_in_the_scope() -> None:
    """`context` gives objects of the caller's, such as a web request, to the container's scope of the unit."""
    from dishka import Provider, Scope, from_context

    class Page:
        pass

    class Pages(Provider):
        page = from_context(Page, scope=Scope.REQUEST)

    page = Page()
    app = Headrace("pages", providers=[Pages()])
    async with app, app.unit_of_work(context={Page: page}) as unit:
        assert await unit.get(Page) is page
