"""The in-process flow as a user writes it: messages of every kind, all three spellings, from command to consumed event."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy import MetaData, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace import (
    Command,
    DomainEvent,
    Envelope,
    Event,
    EventHandler,
    EventMap,
    Events,
    Headrace,
    Module,
    NotificationEvent,
    Query,
    Request,
    RequestHandler,
    RequestMap,
    RequestMediator,
    notification,
)
from headrace.testing import Harness

# The README's words, section 2 of the design ------------------------------------------------------------------------


class JoinMeeting(Command[None]):
    user_id: str
    meeting_id: str


class UserJoined(DomainEvent):
    user_id: str
    meeting_id: str


class MeetingJoined(
    NotificationEvent, type="meetings.user-joined.v1", topic="meetings", key="meeting_id"
):
    user_id: str
    meeting_id: str


class Meetings:
    def __init__(self) -> None:
        self.members: list[tuple[str, str]] = []

    async def add(self, meeting_id: str, user_id: str) -> None:
        self.members.append((meeting_id, user_id))


class JoinMeetingHandler(RequestHandler[JoinMeeting, None]):
    def __init__(self, meetings: Meetings) -> None:
        self._meetings = meetings

    async def handle(self, request: JoinMeeting) -> None:
        await self._meetings.add(request.meeting_id, request.user_id)
        self.events.append(UserJoined(request.user_id, request.meeting_id))


class AnnounceJoin(EventHandler[UserJoined]):
    async def handle(self, event: UserJoined) -> None:
        self.events.append(MeetingJoined(event.user_id, event.meeting_id))


class ExplicitJoinHandler(RequestHandler[JoinMeeting, None]):
    def __init__(self, meetings: Meetings) -> None:
        self._meetings = meetings
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

    async def handle(self, request: JoinMeeting) -> None:
        await self._meetings.add(request.meeting_id, request.user_id)
        self._events.append(UserJoined(request.user_id, request.meeting_id))


class ExplicitAnnounceJoin(EventHandler[UserJoined]):
    def __init__(self) -> None:
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

    async def handle(self, event: UserJoined) -> None:
        self._events.append(MeetingJoined(event.user_id, event.meeting_id))


def short() -> dict[str, Any]:
    requests, events = RequestMap(), EventMap()
    requests.bind(JoinMeeting, JoinMeetingHandler)
    events.bind(UserJoined, AnnounceJoin)
    return {"requests": requests, "events": events}


def explicit() -> dict[str, Any]:
    requests, events = RequestMap(), EventMap()
    requests.bind(JoinMeeting, ExplicitJoinHandler)
    events.bind(UserJoined, ExplicitAnnounceJoin)
    return {"requests": requests, "events": events}


def functions() -> dict[str, Any]:
    module = Module("meetings")

    @module.handler
    async def join_meeting(request: JoinMeeting, meetings: Meetings, events: Events) -> None:
        await meetings.add(request.meeting_id, request.user_id)
        events.append(UserJoined(request.user_id, request.meeting_id))

    @module.handler
    async def announce_join(event: UserJoined, events: Events) -> None:
        events.append(MeetingJoined(event.user_id, event.meeting_id))

    return {"modules": [module]}


@pytest.mark.parametrize("spelling", [short, explicit, functions])
@pytest.mark.parametrize("storage", ["memory", "sqlite", None])
async def test_all_spellings_flow_alike(spelling: Any, storage: str | None, tmp_path: Path) -> None:
    """Section 2: class, explicit class and function do the same, from command to published notification."""
    url = {"memory": "memory://", "sqlite": f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", None: None}
    broker = "sql://" if storage == "sqlite" else "memory://"
    meetings = Meetings()
    app = Headrace(
        "meetings", **spelling(), providers=[meetings], storage=url[storage], broker=broker
    )
    async with Harness(app) as h:
        await h.send(JoinMeeting("u1", "m1"))
        await h.settle()
        assert h.published(MeetingJoined, key="m1") == [MeetingJoined("u1", "m1")]
    assert meetings.members == [("m1", "u1")]


# Messages of other makes --------------------------------------------------------------------------------------------


class PydanticPay(BaseModel, Request[int]):
    amount: int


@notification(type="pay.paid.pydantic.v1", topic="pay", key="amount")
class PydanticPaid(BaseModel, Event):
    amount: int


class StructPay(msgspec.Struct, Request[int], frozen=True):
    amount: int


@notification(type="pay.paid.struct.v1", topic="pay", key="amount")
class StructPaid(msgspec.Struct, Event, frozen=True):
    amount: int


@attrs.frozen
class AttrsPay(Request[int]):
    amount: int


@notification(type="pay.paid.attrs.v1", topic="pay", key="amount")
@attrs.frozen
class AttrsPaid(Event):
    amount: int


@dataclass(frozen=True)
class DataPay(Request[int]):
    amount: int
    tags: list[str] = field(default_factory=list)


@notification(type="pay.paid.data.v1", topic="pay", key="amount")
@dataclass(frozen=True)
class DataPaid(Event):
    amount: int


@pytest.mark.parametrize(
    ("pay", "paid"),
    [
        (PydanticPay, PydanticPaid),
        (StructPay, StructPaid),
        (AttrsPay, AttrsPaid),
        (DataPay, DataPaid),
    ],
)
async def test_messages_of_every_make_flow(pay: Any, paid: Any) -> None:
    """Section 2: pydantic, msgspec, attrs and dataclass messages are sent, published and consumed as what they are."""
    seen: list[object] = []

    async def handle(request: Any, events: Events) -> int:
        events.append(paid(amount=request.amount))
        return int(request.amount)

    async def on_paid(event: Any) -> None:
        seen.append(event)

    requests, events = RequestMap(), EventMap()
    requests.bind(pay, handle)
    events.bind(paid, on_paid)
    app = Headrace("pay", requests=requests, events=events, storage="memory://", broker="memory://")
    async with Harness(app) as h:
        assert await h.send(pay(amount=3)) == 3
        await h.settle()
        assert seen == h.published(paid, key="3") == [paid(amount=3)]
        assert type(seen[0]) is paid


async def test_a_foreign_class_is_bound_and_handled_all_the_same() -> None:
    """Section 2: classes that cannot take a base are bound and handled, as request and as event."""

    class ForeignRequest:
        def __init__(self, n: int) -> None:
            self.n = n

    class ForeignEvent:
        def __init__(self, n: int) -> None:
            self.n = n

    seen: list[int] = []
    module = Module("foreign")

    @module.handler(kind="request")
    async def handle(request: ForeignRequest, events: Events) -> int:
        events.append(ForeignEvent(request.n + 1))  # type: ignore[arg-type]
        return request.n

    @module.handler(kind="event")
    async def on_event(event: ForeignEvent) -> None:
        seen.append(event.n)

    async with Headrace("foreign", modules=[module]) as app:
        assert await app.send(ForeignRequest(1)) == 1  # type: ignore[arg-type]
    assert seen == [2]


def test_a_pydantic_request_validates_before_it_is_sent() -> None:
    """Section 2: a message stays what it is: pydantic validates it when it is made."""
    with pytest.raises(ValidationError):
        PydanticPay(amount="many")  # type: ignore[arg-type]


async def test_a_function_takes_one_of_several_messages() -> None:
    """Section 2: a first parameter A | B binds the function to each."""
    seen: list[object] = []
    module = Module("many")

    @module.handler
    async def on_both(event: UserJoined | MeetingJoined) -> None:
        seen.append(event)

    @module.handler
    async def join(request: JoinMeeting, events: Events) -> None:
        events.append(UserJoined(request.user_id, request.meeting_id))
        events.append(MeetingJoined(request.user_id, request.meeting_id))

    app = Headrace("many", modules=[module], storage="memory://", broker="memory://")
    async with Harness(app) as h:
        await h.send(JoinMeeting("u", "m"))
        await h.settle()
    assert seen == [UserJoined("u", "m"), MeetingJoined("u", "m")]


# A whole flow on SQLite ---------------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    metadata = MetaData()


class Seat(Base):
    __tablename__ = "seat"

    id: Mapped[int] = mapped_column(primary_key=True)
    meeting: Mapped[str]
    user: Mapped[str]


class Board(Base):
    __tablename__ = "board"

    meeting: Mapped[str] = mapped_column(primary_key=True)
    members: Mapped[int] = mapped_column(default=0)


class Seats:
    """A repository: request-scoped, on the unit's session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def take(self, meeting: str, user: str) -> None:
        self._session.add(Seat(meeting=meeting, user=user))

    async def of(self, meeting: str) -> Sequence[str]:
        return (await self._session.scalars(select(Seat.user).where(Seat.meeting == meeting))).all()


class WhoIsIn(Query[list[str]]):
    meeting_id: str


class CountMember(Command[int]):
    meeting_id: str


async def test_from_a_command_to_a_projection_and_the_next_command(tmp_path: Path) -> None:
    """G4, G5, G7: command, event, outbox, relay, broker, consumer, nested command; correlation and metadata all along."""
    envelopes: dict[str, Envelope] = {}
    module = Module("meetings", providers=[Seats])

    @module.handler
    async def join(request: JoinMeeting, seats: Seats, envelope: Envelope, events: Events) -> None:
        envelopes["command"] = envelope
        await seats.take(request.meeting_id, request.user_id)
        events.append(UserJoined(request.user_id, request.meeting_id))

    @module.handler
    async def announce(event: UserJoined, events: Events) -> None:
        events.append(MeetingJoined(event.user_id, event.meeting_id))

    @module.handler
    async def project(event: MeetingJoined, envelope: Envelope, mediator: RequestMediator) -> None:
        envelopes["consumed"] = envelope
        await mediator.send(CountMember(event.meeting_id))

    @module.handler
    async def count(request: CountMember, session: AsyncSession, envelope: Envelope) -> int:
        envelopes["nested"] = envelope
        board = await session.get(Board, request.meeting_id)
        if board is None:
            board = Board(meeting=request.meeting_id, members=0)
            session.add(board)
        board.members += 1
        return board.members

    @module.handler
    async def who(request: WhoIsIn, seats: Seats) -> list[str]:
        return list(await seats.of(request.meeting_id))

    class HowMany(Query[int]):
        meeting_id: str

    async def how_many(request: HowMany, session: AsyncSession) -> int:
        board = await session.get(Board, request.meeting_id)
        return board.members if board is not None else 0

    module.bind(HowMany, how_many)
    from headrace.drivers.sql import SqlStorage

    app = Headrace(
        "meetings",
        modules=[module],
        storage=SqlStorage(f"sqlite+aiosqlite:///{tmp_path / 'm.db'}", metadata=Base.metadata),
        broker="sql://",
    )
    async with app:
        for user in ("ada", "bob"):
            await app.send(
                JoinMeeting(user, "m1"), correlation_id=f"order-{user}", metadata={"tenant": "acme"}
            )
        await app.settle()
        assert await app.send(WhoIsIn("m1")) == ["ada", "bob"]
        assert await app.send(HowMany("m1")) == 2
    command, consumed, nested = (envelopes[k] for k in ("command", "consumed", "nested"))
    assert command.correlationid == consumed.correlationid == nested.correlationid == "order-bob"
    assert nested.causationid == consumed.id
    assert command.metadata == consumed.metadata == nested.metadata == {"tenant": "acme"}
