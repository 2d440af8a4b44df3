"""The unit of work on SQLite: one scope, one session, one transaction for everything that one send does (G4)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from dishka import Provider, Scope
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace import Command, Envelope, Events, Headrace, RequestMediator
from headrace.drivers.sql import SqlStorage, SqlTransaction
from headrace.drivers.sql.savepoint import SqlSavepoint
from headrace.errors import (
    CommitOutcomeUnknown,
    ConcurrentUnitOfWork,
    StorageUnavailable,
    UnitOfWorkClosed,
    UnitOfWorkError,
)
from headrace.telemetry import Count
from headrace.testing import Harness
from tests.unit.heart import (
    Announced,
    Find,
    Gate,
    Join,
    Joined,
    Leave,
    Log,
    make_app,
    raising,
)


class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "member"

    name: Mapped[str] = mapped_column(primary_key=True)


class Try(Command[str]):
    name: str


class Leaving(Command[str]):
    pass


async def join(request: Join, session: AsyncSession) -> str:
    session.add(Member(name=request.user))
    return request.user


async def leave(request: Leave, session: AsyncSession) -> str:
    session.add(Member(name=f"left {request.user}"))
    return request.user


class FaultyStorage(SqlStorage):
    """Its transactions can be told what happens around their COMMIT."""

    before: Callable[[], Any] | None = None
    after: Callable[[], Any] | None = None
    commits = rollbacks = 0

    def transaction(self, *, read_only: bool = False) -> SqlTransaction:
        transaction = super().transaction(read_only=read_only)
        commit, rollback = transaction.commit, transaction.rollback

        async def committing() -> None:
            self.commits += transaction.touched
            if self.before is not None:
                await self.before()
            await commit()
            if self.after is not None:
                await self.after()

        async def rolling_back() -> None:
            self.rollbacks += transaction.touched
            await rollback()

        transaction.commit, transaction.rollback = committing, rolling_back  # type: ignore[method-assign]
        return transaction


class World:
    """An app on a file of its own, and a look at what is committed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storage = FaultyStorage(self.url, metadata=Base.metadata, busy_seconds=5.0)

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.path}"

    def app(self, *bindings: Any, **settings: Any) -> Headrace:
        settings = {"broker": "sql://", "unhandled": "ignore", "roles": {"send"}, **settings}
        return make_app(*bindings, storage=self.storage, **settings)

    async def members(self) -> list[str]:
        return await self._read("select name from member order by rowid")

    async def outbox(self) -> list[str]:
        rows = await self.storage.ready("outbox:meetings", range(8), limit=100)
        return [row.message.key or "" for row in sorted(rows, key=lambda r: r.position)]

    async def _read(self, sql: str) -> list[str]:
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(self.url)
        try:
            async with engine.connect() as connection:
                return [str(value) for value in await connection.scalars(text(sql))]
        finally:
            await engine.dispose()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "app.db")


# One unit -------------------------------------------------------------------------------------------------------------


async def test_handler_event_handlers_and_outbox_commit_together(world: World) -> None:
    """G4: what the handler, the event handlers and the outbox wrote is there after the send."""

    async def first(request: Join, session: AsyncSession, events: Events) -> str:
        session.add(Member(name="by the handler"))
        events.append(Joined(request.user))
        return "done"

    async def joined(event: Joined, session: AsyncSession, events: Events) -> None:
        session.add(Member(name="by the event handler"))
        events.append(Announced("a1"))

    async with world.app((Join, first), (Joined, joined)) as app:
        assert await app.send(Join()) == "done"
        assert await world.members() == ["by the handler", "by the event handler"]
        assert await world.outbox() == ["a1"]
        assert (world.storage.commits, world.storage.rollbacks) == (1, 0)


async def test_a_failing_event_handler_undoes_all(world: World) -> None:
    """G4: when an event handler fails, nothing that the handler or the outbox wrote is kept; the error is unwrapped."""

    async def first(request: Join, session: AsyncSession, events: Events) -> str:
        session.add(Member(name="gone"))
        await session.flush()
        events.extend([Announced("gone"), Joined()])
        return ""

    async def joined(event: Joined) -> None:
        raise KeyError("joined")

    async with world.app((Join, first), (Joined, joined)) as app:
        with pytest.raises(KeyError, match="joined"):
            await app.send(Join())
        assert await world.members() == []
        assert await world.outbox() == []


async def test_one_session_one_connection_one_scope(world: World) -> None:
    """G4: handler, event handlers, their request-scoped dependencies and nested sends share session, connection and scope."""
    seen: list[tuple[object, ...]] = []

    class Repository:
        def __init__(
            self,
            session: AsyncSession,
            connection: AsyncConnection,
            mediator: RequestMediator,
            envelope: Envelope,
        ) -> None:
            self.session, self.connection = session, connection
            self.mediator, self.envelope = mediator, envelope

    def note(r: Repository, s: AsyncSession, c: AsyncConnection, m: RequestMediator) -> None:
        seen.append((id(r), id(s), id(r.session), id(c), id(r.connection), id(m), id(r.mediator)))

    async def first(
        request: Join,
        r: Repository,
        s: AsyncSession,
        c: AsyncConnection,
        m: RequestMediator,
        events: Events,
    ) -> str:
        note(r, s, c, m)
        assert r.envelope.type.endswith("Join")
        await m.send(Leave())
        events.append(Joined())
        return ""

    async def nested(
        request: Leave, r: Repository, s: AsyncSession, c: AsyncConnection, m: RequestMediator
    ) -> str:
        note(r, s, c, m)
        return ""

    async def joined(
        event: Joined, r: Repository, s: AsyncSession, c: AsyncConnection, m: RequestMediator
    ) -> None:
        note(r, s, c, m)

    bindings = (Join, first), (Leave, nested), (Joined, joined)
    async with world.app(*bindings, providers=[Repository]) as app:
        await app.send(Join())
        assert len(seen) == 3
        assert len(set(seen)) == 1
        _, session, inner_session, connection, inner_connection, mediator, inner_mediator = seen[0]
        assert (session, connection, mediator) == (inner_session, inner_connection, inner_mediator)
        await app.send(Join())
        assert seen[3][1] != session or seen[3][0] != seen[0][0]


async def test_session_and_connection_are_one_transaction(world: World) -> None:
    """G4: what was written through the connection is seen through the session, and undone with it."""

    async def both(request: Join, session: AsyncSession, connection: AsyncConnection) -> str:
        await connection.execute(text("insert into member (name) values ('c')"))
        found = (await session.scalars(select(Member.name))).all()
        assert list(found) == ["c"]
        raise KeyError

    async with world.app((Join, both)) as app:
        with pytest.raises(KeyError):
            await app.send(Join())
        assert await world.members() == []


async def test_a_send_that_touches_nothing_takes_no_connection(world: World) -> None:
    """G4: a send that writes nothing and announces nothing costs no round trip, even if it asked for the session."""

    async def idle(request: Join, session: AsyncSession, events: Events) -> str:
        events.append(Joined())
        return "idle"

    async with world.app((Join, idle), (Find, idle_find)) as app:
        assert await app.send(Join()) == "idle"
        assert await app.send(Find()) == "idle"
        assert (world.storage.commits, world.storage.rollbacks) == (0, 0)


async def idle_find(request: Find, session: AsyncSession) -> str:
    return "idle"


async def test_objects_stay_loaded_after_the_commit(world: World) -> None:
    """G4: the session has expire_on_commit=False: a returned object can be read."""
    kept: list[Member] = []

    async def keeps(request: Join, session: AsyncSession) -> str:
        member = Member(name="kept")
        session.add(member)
        kept.append(member)
        return ""

    async with world.app((Join, keeps)) as app:
        await app.send(Join())
        assert kept[0].name == "kept"


@pytest.mark.parametrize("call", ["commit", "rollback", "close", "begin", "with"])
async def test_a_handler_cannot_end_the_transaction(world: World, call: str) -> None:
    """G4: a handler that commits, rolls back, closes or begins gets UnitOfWorkError with begin_nested() as the remedy."""

    async def ends(request: Join, session: AsyncSession) -> str:
        session.add(Member(name="x"))
        await session.flush()
        if call == "begin":
            async with session.begin():
                pass
        elif call == "with":
            async with session:
                pass
        else:
            await getattr(session, call)()
        return ""

    async with world.app((Join, ends)) as app:
        with pytest.raises(UnitOfWorkError, match="begin_nested"):
            await app.send(Join())
        assert await world.members() == []


async def test_a_savepoint_of_the_users_own_recovers(world: World) -> None:
    """G4: an error inside session.begin_nested() is undone alone, and the unit commits the rest."""

    async def tries(request: Join, session: AsyncSession) -> str:
        session.add(Member(name="kept"))
        await session.flush()
        try:
            async with session.begin_nested():
                await session.execute(text("insert into member values ('gone')"))
                await session.execute(text("insert into member values ('kept')"))
        except IntegrityError:
            return "recovered"
        return "not reached"

    async with world.app((Join, tries)) as app:
        assert await app.send(Join()) == "recovered"
        assert await world.members() == ["kept"]


async def test_a_caught_failed_flush_dooms_the_unit(world: World) -> None:
    """G4: after a caught error that rolled the session back, later statements and the commit raise the original error."""
    later: list[BaseException] = []

    async def catches(request: Join, session: AsyncSession, events: Events) -> str:
        await session.execute(text("insert into member values ('u1')"))
        session.add(Member(name="u1"))
        with pytest.raises(IntegrityError):
            await session.flush()
        events.append(Announced("lost"))
        try:
            await session.execute(text("insert into member values ('other')"))
        except IntegrityError as error:
            later.append(error)
        return "fine"

    async with world.app((Join, catches)) as app:
        with pytest.raises(IntegrityError) as raised:
            await app.send(Join())
        assert later == [raised.value]
        assert await world.members() == []
        assert await world.outbox() == []


async def test_a_translated_database_error_reaches_the_caller(world: World) -> None:
    """G4: a handler that raises its own error from the database's gets its own error out; all is rolled back."""

    class NameTaken(Exception):
        pass

    async def translates(request: Join, session: AsyncSession) -> str:
        await session.execute(text("insert into member values ('u1')"))
        session.add(Member(name="u1"))
        try:
            await session.flush()
        except IntegrityError as error:
            raise NameTaken from error
        return ""

    async with world.app((Join, translates)) as app:
        with pytest.raises(NameTaken):
            await app.send(Join())
        assert await world.members() == []


# Queries --------------------------------------------------------------------------------------------------------------


async def test_a_query_reads_and_is_rolled_back(world: World) -> None:
    """G4: a query's unit reads, and what it wrote by mistake is refused or rolled back."""

    async def count(request: Find, session: AsyncSession) -> str:
        return str(await session.scalar(select(func.count()).select_from(Member)))

    async with world.app((Join, join), (Find, count)) as app:
        await app.send(Join())
        assert await app.send(Find()) == "1"
        assert (world.storage.commits, world.storage.rollbacks) == (1, 1)


async def test_a_query_cannot_write(world: World) -> None:
    """G4: a query that writes is refused by the database or rolled back; nothing of it stays."""

    async def writes(request: Find, session: AsyncSession) -> str:
        await session.execute(text("insert into member values ('q')"))
        return ""

    async with world.app((Find, writes)) as app:
        with pytest.raises((OperationalError, UnitOfWorkError)):
            await app.send(Find())
        assert await world.members() == []


async def test_a_command_inside_a_query_is_refused(world: World) -> None:
    """G4: a command cannot join a query's read-only unit."""

    async def find(request: Find, mediator: RequestMediator) -> str:
        return await mediator.send(Join())

    async with world.app((Find, find), (Join, join)) as app:
        with pytest.raises(UnitOfWorkError, match=r"command Join was sent inside Find"):
            await app.send(Find())


def roll_back_behind(gate: Gate, storage: FaultyStorage) -> None:
    """Let each rollback of the storage wait until the gate is open."""
    transaction, original = storage.transaction, SqlTransaction.rollback

    async def slow(self: SqlTransaction) -> None:
        await gate()
        await original(self)

    def slowly(*, read_only: bool = False) -> SqlTransaction:
        made = transaction(read_only=read_only)
        made.rollback = lambda: slow(made)  # type: ignore[method-assign]
        return made

    storage.transaction = slowly  # type: ignore[method-assign]


async def test_a_cancelled_query_is_cancelled(world: World) -> None:
    """G4: a cancellation that comes while a query's unit is rolled back is not swallowed."""
    gate = Gate()

    async def find(request: Find, session: AsyncSession) -> str:
        return str(await session.scalar(select(func.count()).select_from(Member)))

    async with world.app((Find, find)) as app:
        roll_back_behind(gate, world.storage)
        send = asyncio.create_task(app.send(Find()))
        await gate.reached.wait()
        send.cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await send


async def test_a_send_that_is_cancelled_while_it_is_rolled_back_is_cancelled(world: World) -> None:
    """G4: whoever cancels a task wants it to end, though a handler has failed: a loop that catches the error would go on."""
    gate = Gate()

    async def join(request: Join, session: AsyncSession) -> str:
        session.add(Member(name="u1"))
        await session.flush()
        raise ValueError("no")

    async with world.app((Join, join)) as app:
        roll_back_behind(gate, world.storage)
        send = asyncio.create_task(app.send(Join()))
        await gate.reached.wait()
        send.cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await send
        assert isinstance(caught.value.__cause__, ValueError)


# Nested sends ---------------------------------------------------------------------------------------------------------


async def test_a_nested_send_joins_and_its_events_come_before_it_returns(world: World) -> None:
    """G4: a nested send's events are dispatched before it returns, and all is one commit of the outermost send."""
    log = Log()

    async def outer(request: Join, mediator: RequestMediator, session: AsyncSession) -> str:
        session.add(Member(name="outer"))
        answer = await mediator.send(Leave())
        log.append("nested returned")
        assert await world.members() == []
        return answer

    async def inner(request: Leave, session: AsyncSession, events: Events) -> str:
        session.add(Member(name="inner"))
        events.extend([Joined(), Announced("n")])
        return "inner"

    async def joined(event: Joined) -> None:
        log.append("joined")

    async with world.app((Join, outer), (Leave, inner), (Joined, joined)) as app:
        assert await app.send(Join()) == "inner"
        assert log == ["joined", "nested returned"]
        assert await world.members() == ["outer", "inner"]
        assert await world.outbox() == ["n"]
        assert world.storage.commits == 1


async def test_app_send_inside_a_handler_joins_too(world: World) -> None:
    """G4: calling app.send in a handler joins the running unit, as the injected mediator does."""

    async def outer(request: Join) -> str:
        await app.send(Leave())
        raise KeyError("after")

    app = world.app((Join, outer), (Leave, leave))
    async with app:
        with pytest.raises(KeyError):
            await app.send(Join())
        assert await world.members() == []


async def test_a_caught_failed_nested_send_dooms_the_unit(world: World) -> None:
    """G4: a failed nested send dooms the unit even if caught: all rolls back, and the caller gets the original error."""

    async def outer(request: Join, mediator: RequestMediator, session: AsyncSession) -> str:
        session.add(Member(name="outer"))
        await session.flush()
        with pytest.raises(KeyError):
            await mediator.send(Leave())
        return "fine"

    async def inner(request: Leave) -> str:
        raise KeyError("inner")

    async with world.app((Join, outer), (Leave, inner)) as app:
        with pytest.raises(KeyError, match="inner"):
            await app.send(Join())
        assert await world.members() == []


async def test_later_statements_of_a_doomed_unit_are_refused(world: World) -> None:
    """G4: after a caught failed nested send further statements raise its error."""

    async def outer(request: Join, mediator: RequestMediator, session: AsyncSession) -> str:
        with pytest.raises(KeyError):
            await mediator.send(Leave())
        with pytest.raises(KeyError, match="inner"):
            await session.execute(text("insert into member values ('late')"))
        return ""

    async def inner(request: Leave) -> str:
        raise KeyError("inner")

    async with world.app((Join, outer), (Leave, inner)) as app:
        with pytest.raises(KeyError, match="inner"):
            await app.send(Join())


async def test_a_handler_may_translate_the_error_of_a_nested_send(world: World) -> None:
    """G4: an error raised because of the nested one reaches the caller; one that is not gives way to the original."""

    async def outer(request: Try, mediator: RequestMediator) -> str:
        try:
            await mediator.send(Leave())
        except KeyError as error:
            if request.name == "translate":
                raise LookupError("translated") from error
        raise LookupError("unrelated")

    async def inner(request: Leave) -> str:
        raise KeyError("inner")

    async with world.app((Try, outer), (Leave, inner)) as app:
        with pytest.raises(LookupError, match="translated"):
            await app.send(Try("translate"))
        with pytest.raises(KeyError, match="inner") as raised:
            await app.send(Try("other"))
        assert "unrelated" in str(raised.value.__cause__)


async def test_a_time_limit_around_a_nested_send(world: World) -> None:
    """G4: a nested send cut off by asyncio.timeout dooms the unit, and the caller gets no CancelledError of nobody's."""

    async def outer(request: Try, mediator: RequestMediator) -> str:
        async with asyncio.timeout(None) as limit:
            try:
                limit.reschedule(asyncio.get_running_loop().time())
                await mediator.send(Leave())
            except ValueError:
                pytest.fail("not reached")
        return ""

    async def catching(request: Join, mediator: RequestMediator) -> str:
        with pytest.raises(TimeoutError):
            await outer(Try(""), mediator)
        return "caught"

    async def inner(request: Leave) -> str:
        await asyncio.Event().wait()
        return ""

    async with world.app((Try, outer), (Join, catching), (Leave, inner)) as app:
        with pytest.raises(TimeoutError):
            await app.send(Try("x"))
        with pytest.raises(UnitOfWorkError, match="Leave was cut off"):
            await app.send(Join())


async def test_a_savepoint_makes_a_nested_send_recoverable(world: World) -> None:
    """G4: send(savepoint=True) undoes a failed nested send alone, with what it wrote and the events that it announced."""

    async def outer(
        request: Join, mediator: RequestMediator, session: AsyncSession, events: Events
    ) -> str:
        session.add(Member(name="outer"))
        with pytest.raises(KeyError):
            await mediator.send(Leave("bad"), savepoint=True)
        await mediator.send(Leave("good"), savepoint=True)
        events.append(Announced("outer"))
        return ""

    async def inner(request: Leave, session: AsyncSession, events: Events) -> str:
        session.add(Member(name=request.user))
        await session.flush()
        events.append(Announced(request.user))
        events.append(Joined(request.user))
        return ""

    async def joined(event: Joined) -> None:
        if event.user == "bad":
            raise KeyError(event.user)

    async with world.app((Join, outer), (Leave, inner), (Joined, joined)) as app:
        await app.send(Join())
        assert await world.members() == ["outer", "good"]
        assert await world.outbox() == ["good", "outer"]


async def test_a_failed_nested_send_inside_a_savepoint_undoes_the_savepoint(world: World) -> None:
    """G4: a failure that a handler caught inside a savepoint undoes the whole savepoint, not the outer unit."""

    async def outer(request: Join, mediator: RequestMediator, session: AsyncSession) -> str:
        session.add(Member(name="outer"))
        with pytest.raises(KeyError):
            await mediator.send(Leave(), savepoint=True)
        return ""

    async def middle(request: Leave, mediator: RequestMediator, session: AsyncSession) -> str:
        session.add(Member(name="middle"))
        with pytest.raises(KeyError):
            await mediator.send(Try("inner"))
        return ""

    async def inner(request: Try) -> str:
        raise KeyError("inner")

    async with world.app((Join, outer), (Leave, middle), (Try, inner)) as app:
        await app.send(Join())
        assert await world.members() == ["outer"]


async def test_a_savepoint_that_cannot_be_undone_fails_with_the_cause_of_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G4, G9: when the database is lost while a failed nested send is undone, the caller gets that, not the caught error."""

    async def lost(savepoint: SqlSavepoint) -> None:
        raise StorageUnavailable("the server is away")

    monkeypatch.setattr(SqlSavepoint, "rollback", lost)

    async def outer(request: Join, mediator: RequestMediator, session: AsyncSession) -> str:
        session.add(Member(name="outer"))
        with contextlib.suppress(KeyError):
            await mediator.send(Leave("inner"), savepoint=True)
        return ""

    async def inner(request: Leave, session: AsyncSession) -> str:
        raise KeyError(request.user)

    async with world.app((Join, outer), (Leave, inner)) as app:
        with pytest.raises(StorageUnavailable, match="the server is away"):
            await app.send(Join())
        assert await world.members() == []


async def test_a_savepoint_does_not_mend_what_failed_before(world: World) -> None:
    """G4: a doomed unit stays doomed when a later savepoint send fails and is caught."""

    async def outer(request: Join, mediator: RequestMediator, session: AsyncSession) -> str:
        session.add(Member(name="outer"))
        with pytest.raises(KeyError):
            await mediator.send(Leave("first"))
        with pytest.raises(KeyError):
            await mediator.send(Leave("second"), savepoint=True)
        return ""

    async def inner(request: Leave) -> str:
        raise KeyError(request.user)

    async with world.app((Join, outer), (Leave, inner)) as app:
        with pytest.raises(KeyError, match="first"):
            await app.send(Join())
        assert await world.members() == []


async def test_a_savepoint_undoes_the_events_of_an_app_without_storage() -> None:
    """G4: without a storage too a failure caught inside a savepoint fails that savepoint, and only its events are dropped."""

    async def outer(request: Join, mediator: RequestMediator, events: Events) -> str:
        with pytest.raises(KeyError):
            await mediator.send(Leave(), savepoint=True)
        events.append(Announced("outer"))
        return "recovered"

    async def middle(request: Leave, mediator: RequestMediator, events: Events) -> str:
        await mediator.send(Leaving())
        with pytest.raises(KeyError):
            await mediator.send(Try("inner"))
        return ""

    async def announces(request: Leaving, events: Events) -> str:
        events.append(Announced("dropped"))
        return ""

    async def inner(request: Try) -> str:
        raise KeyError("inner")

    bindings = (Join, outer), (Leave, middle), (Leaving, announces), (Try, inner)
    async with Harness(make_app(*bindings, broker="memory://")) as h:
        assert await h.send(Join()) == "recovered"
        assert h.published(Announced) == [Announced("outer")]


async def test_a_savepoint_does_not_mend_an_app_without_storage() -> None:
    """G4: also without a storage the unit stays doomed by what failed before a savepoint."""

    async def outer(request: Join, mediator: RequestMediator, envelope: Envelope) -> str:
        for user, savepoint in (("first", False), ("second", True)):
            with pytest.raises(KeyError):
                await mediator.send(Leave(user), savepoint=savepoint)
        return ""

    async def inner(request: Leave) -> str:
        raise KeyError(request.user)

    async with make_app((Join, outer), (Leave, inner)) as app:
        with pytest.raises(KeyError, match="first"):
            await app.send(Join())


async def test_a_middleware_that_fails_around_a_nested_send_dooms_the_unit(world: World) -> None:
    """G4: a nested send fails also when a middleware around it does; then the unit is doomed."""

    async def check(request: Any, call_next: Any) -> Any:
        answer = await call_next(request)
        if isinstance(request, Leave):
            raise PermissionError("too late")
        return answer

    async def outer(request: Join, mediator: RequestMediator, session: AsyncSession) -> str:
        with pytest.raises(PermissionError):
            await mediator.send(Leave())
        return ""

    async with world.app((Join, outer), (Leave, leave), middlewares=[check]) as app:
        with pytest.raises(PermissionError):
            await app.send(Join())
        assert await world.members() == []


async def test_concurrent_nested_sends_are_refused(world: World) -> None:
    """G4: asyncio.gather over nested sends raises ConcurrentUnitOfWork: one unit is one task's."""

    async def outer(request: Join, mediator: RequestMediator) -> str:
        await asyncio.gather(mediator.send(Leave("1")), mediator.send(Leave("2")))
        return ""

    async with world.app((Join, outer), (Leave, leave)) as app:
        with pytest.raises(ConcurrentUnitOfWork, match="await them in turn"):
            await app.send(Join())
        assert await world.members() == []


async def test_a_task_that_outlives_the_unit_starts_its_own(world: World) -> None:
    """G4: a send from a task that outlives its unit is a unit of its own."""
    tasks: list[asyncio.Task[str]] = []
    gate = Gate()

    async def later(mediator: RequestMediator) -> str:
        await gate()
        return await mediator.send(Leave("late"))

    async def outer(request: Join, mediator: RequestMediator, session: AsyncSession) -> str:
        session.add(Member(name="outer"))
        tasks.append(asyncio.create_task(later(mediator)))
        return ""

    async with world.app((Join, outer), (Leave, leave)) as app:
        await app.send(Join())
        gate.opened.set()
        assert await tasks[0] == "late"
        assert await world.members() == ["outer", "left late"]
        assert world.storage.commits == 2


@pytest.mark.parametrize("used", [True, False])
async def test_a_session_that_outlives_the_unit_is_closed(world: World, used: bool) -> None:
    """G4: a kept session raises UnitOfWorkClosed, whether the unit had used it or not, never a foreign transaction."""
    kept: list[AsyncSession] = []

    async def keeps(request: Join, session: AsyncSession) -> str:
        kept.append(session)
        if used:
            await session.execute(select(Member))
        return ""

    async def keeps_too(request: Find, session: AsyncSession) -> str:
        return await keeps(Join(), session)

    async with world.app((Join, keeps), (Find, keeps_too)) as app:
        await app.send(Join())
        await app.send(Find())
        for session in kept:
            with pytest.raises(UnitOfWorkClosed):
                await session.execute(select(Member))


async def test_two_apps_in_one_process_never_join_each_other(tmp_path: Path) -> None:
    """G4: a send to another app inside a handler is that app's own unit; sending back joins the first app's."""
    one, two = World(tmp_path / "one.db"), World(tmp_path / "two.db")
    apps: dict[str, Headrace] = {}

    async def join(request: Join, session: AsyncSession) -> str:
        session.add(Member(name="one"))
        await apps["two"].send(Leave())
        assert await two.members() == ["two"]
        raise KeyError("one fails")

    async def back(request: Try, session: AsyncSession) -> str:
        session.add(Member(name="back"))
        return ""

    async def leave(request: Leave, session: AsyncSession) -> str:
        session.add(Member(name="two"))
        await apps["one"].send(Try("back"))
        return ""

    apps["one"] = one.app((Join, join), (Try, back), name="one")
    apps["two"] = two.app((Leave, leave), name="two")
    async with apps["one"], apps["two"]:
        with pytest.raises(KeyError, match="one fails"):
            await apps["one"].send(Join())
    assert await one.members() == []
    assert await two.members() == ["two"]


# The commit -----------------------------------------------------------------------------------------------------------


async def test_a_send_cancelled_during_commit_waits_for_its_outcome(world: World) -> None:
    """G4: COMMIT is shielded: the cancelled send raises CancelledError after the unit has been committed."""
    gate = Gate()
    world.storage.before = gate
    async with world.app((Join, join)) as app:
        send = asyncio.create_task(app.send(Join()))
        await gate.reached.wait()
        send.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not send.done()
        send.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not send.done(), "a second cancellation must not cut the wait"
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await send
        assert await world.members() == ["u1"]


async def test_the_relay_is_woken_though_the_send_was_cancelled(world: World) -> None:
    """G4: what follows a successful COMMIT follows it also when the send was cancelled meanwhile."""
    gate, woken = Gate(), Log()
    world.storage.before = gate
    async with world.app((Join, raising(Announced()))) as app:
        app._parts.mediator.units.on_outbox = lambda: woken.append("woken")
        send = asyncio.create_task(app.send(Join()))
        await gate.reached.wait()
        send.cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await send
        assert woken == ["woken"]


async def test_a_commit_that_does_not_answer_a_cancelled_send_is_unknown(world: World) -> None:
    """G4: the wait for the outcome of COMMIT is bounded; then CommitOutcomeUnknown says so."""
    gate = Gate()
    world.storage.before = gate
    async with world.app((Join, join)) as app:
        app._parts.mediator.units.commit_wait = 0.01
        send = asyncio.create_task(app.send(Join()))
        await gate.reached.wait()
        send.cancel()
        with pytest.raises(CommitOutcomeUnknown, match="look for its effects"):
            await send
        gate.opened.set()


async def test_a_commit_that_ends_as_cancelled_by_itself_is_unknown(world: World) -> None:
    """G4: nobody cancelled the send, so CancelledError would hide that it may have been committed."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    world.storage.before = give_up
    async with world.app((Join, join)) as app:
        with pytest.raises(CommitOutcomeUnknown, match="look for its effects"):
            await app.send(Join())


async def test_an_error_of_the_commit_is_the_sends(world: World) -> None:
    """G4: when the flush at the commit fails, send raises that error and nothing is kept."""

    async def twice(request: Join, session: AsyncSession) -> str:
        await session.execute(text("insert into member values ('u1')"))
        session.add(Member(name="u1"))
        return "never"

    async with world.app((Join, twice)) as app:
        with pytest.raises(IntegrityError):
            await app.send(Join())
        assert await world.members() == []


async def test_after_a_successful_commit_nothing_fails_the_send(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """G4: failing finalizers and wake-ups after COMMIT are logged and counted, and the response is returned."""

    class Resource:
        pass

    async def make() -> AsyncIterator[Resource]:
        yield Resource()
        raise RuntimeError("finalizer")

    provider = Provider(scope=Scope.REQUEST)
    provider.provide(make, provides=Resource)

    async def uses(request: Join, session: AsyncSession, r: Resource, events: Events) -> str:
        session.add(Member(name="kept"))
        events.append(Announced())
        return "answer"

    def fails() -> None:
        raise RuntimeError("wake-up")

    async with world.app((Join, uses), providers=[provider]) as app:
        app._parts.mediator.units.on_outbox = fails
        assert await app.send(Join()) == "answer"
        assert app.telemetry.counts[Count.FINALIZER_FAILED] == 1
        assert app.telemetry.counts[Count.AFTER_COMMIT_FAILED] == 1
        assert await world.members() == ["kept"]
    assert "finalizer" in caplog.text
    assert "wake-up" in caplog.text


async def test_finalizers_come_after_the_commit_and_learn_of_an_error(world: World) -> None:
    """G4: a dependency's finalizer runs when the outcome stands, and is told the error of a failed send."""
    told: list[object] = []

    class Resource:
        pass

    async def make() -> AsyncIterator[Resource]:
        told.append((yield Resource()))
        told.append(await world.members())

    provider = Provider(scope=Scope.REQUEST)
    provider.provide(make, provides=Resource)
    error = KeyError("x")

    async def uses(request: Try, session: AsyncSession, resource: Resource) -> str:
        session.add(Member(name=request.name))
        if request.name == "bad":
            raise error
        return ""

    async with world.app((Try, uses), providers=[provider]) as app:
        await app.send(Try("good"))
        with pytest.raises(KeyError):
            await app.send(Try("bad"))
    assert told == [None, ["good"], error, ["good"]]


async def test_cancelling_a_send_rolls_it_back(world: World) -> None:
    """G3, G4: a send cancelled in its handler keeps nothing and frees the write turn for the next."""
    gate = Gate()

    async def waits(request: Join, session: AsyncSession) -> str:
        session.add(Member(name="gone"))
        await session.flush()
        await gate()
        return ""

    async with world.app((Join, waits), (Leave, leave)) as app:
        send = asyncio.create_task(app.send(Join()))
        await gate.reached.wait()
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        await app.send(Leave("next"))
        assert await world.members() == ["left next"]


async def test_concurrent_sends_are_units_of_their_own(world: World) -> None:
    """G4: sends from different tasks have sessions of their own; one that fails takes nothing of the others along."""

    async def tries(request: Try, session: AsyncSession, events: Events) -> str:
        session.add(Member(name=request.name))
        await session.flush()
        if request.name == "3":
            raise KeyError
        events.append(Announced(request.name))
        return request.name

    async with world.app((Try, tries)) as app:
        answers = await asyncio.gather(
            *(app.send(Try(str(n))) for n in range(6)), return_exceptions=True
        )
        assert [a for a in answers if isinstance(a, str)] == ["0", "1", "2", "4", "5"]
        assert sorted(await world.members()) == ["0", "1", "2", "4", "5"]
        assert sorted(await world.outbox()) == ["0", "1", "2", "4", "5"]


async def test_a_doomed_unit_enqueues_nothing_though_all_handlers_returned(world: World) -> None:
    """G4: events collected by a doomed unit are never published."""

    async def outer(request: Join, mediator: RequestMediator, events: Events) -> str:
        events.append(Announced("doomed"))
        with pytest.raises(KeyError):
            await mediator.send(Leave())
        return ""

    async def inner(request: Leave) -> str:
        raise KeyError

    async with world.app((Join, outer), (Leave, inner)) as app:
        with pytest.raises(KeyError):
            await app.send(Join())
        assert await world.outbox() == []
