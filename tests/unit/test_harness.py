"""The harness: an app under test on private storage and broker, with questions about what flowed."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace import Envelope, EventHandler, Events, Headrace, Subscription
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.errors import AppNotRunning, BindingError
from headrace.subscriptions import Retry
from headrace.testing import Harness
from tests.unit.heart import Announced, Find, Join, Joined, Leave, Log, make_app, raising


class Meetings:
    async def add(self, user: str) -> str:
        raise AssertionError("the real one must not be called in a test")


class FakeMeetings(Meetings):
    def __init__(self) -> None:
        self.added: list[str] = []

    async def add(self, user: str) -> str:
        self.added.append(user)
        return f"fake {user}"


async def join(request: Join, meetings: Meetings, events: Events) -> str:
    answer = await meetings.add(request.user)
    events.append(Joined(request.user))
    return answer


async def announce(event: Joined, events: Events) -> None:
    events.append(Announced(event.user))


class OnAnnounced(EventHandler[Announced]):
    async def handle(self, event: Announced) -> None:
        if event.user == "poison":
            raise ValueError("cannot")


def shop(**settings: Any) -> Headrace:
    retry = Retry(attempts=2, initial_seconds=0.0)
    return make_app(
        (Join, join),
        (Joined, announce),
        (Announced, OnAnnounced),
        **{
            "providers": [Meetings],
            "storage": MemoryStorage(),
            "broker": "memory://",
            "subscriptions": [Subscription(retry=retry)],
            **settings,
        },
    )


async def test_an_override_by_instance_is_used_everywhere() -> None:
    """Section 2: overrides={Meetings: FakeMeetings()} replaces the dependency in every handler."""
    fake = FakeMeetings()
    async with Harness(shop(), overrides={Meetings: fake}) as h:
        assert await h.send(Join("u1")) == "fake u1"
    assert fake.added == ["u1"]


async def test_an_override_by_class_is_built_for_each_send() -> None:
    """Section 2: an override may be a class, which is built instead, with its own dependencies."""
    log = Log()

    class Logged(FakeMeetings):
        def __init__(self, log: Log) -> None:
            super().__init__()
            log.append(self)

    async with Harness(shop(providers=[Meetings, log]), overrides={Meetings: Logged}) as h:
        await h.send(Join())
        await h.send(Join())
    assert len(log) == len({id(made) for made in log}) == 2


async def test_published_answers_events_by_class_and_key() -> None:
    """Section 2: published(E, key=) answers the confirmed notifications in order, as objects."""
    async with Harness(shop(), overrides={Meetings: FakeMeetings()}) as h:
        for user in ("u1", "u2", "u1"):
            await h.send(Join(user))
        await h.settle()
        assert h.published(Announced) == [Announced("u1"), Announced("u2"), Announced("u1")]
        assert h.published(Announced, key="u2") == [Announced("u2")]
        assert h.published(Announced, key="u3") == []
        with pytest.raises(BindingError, match="no notification"):
            h.published(Joined)


async def test_handled_by_answers_for_classes_and_functions() -> None:
    """Section 2: handled_by(handler) answers the events that it has handled, in the process or consumed."""
    async with Harness(shop(), overrides={Meetings: FakeMeetings()}) as h:
        await h.send(Join("u1"))
        await h.settle()
        assert h.handled_by(announce) == [Joined("u1")]
        assert h.handled_by(OnAnnounced) == [Announced("u1")]
        assert h.handled_by(join) == []


async def test_settle_waits_for_retries_and_shows_dead_letters() -> None:
    """Section 2: settle waits until retries have ended; then dead_letters has what failed for good."""
    async with Harness(shop(), overrides={Meetings: FakeMeetings()}) as h:
        await h.send(Join("poison"))
        await h.send(Join("fine"))
        await h.settle()
        (letter,) = h.dead_letters
        assert letter.key == "poison"
        assert h.handled_by(OnAnnounced) == [Announced("fine")]


async def test_the_app_is_left_untouched() -> None:
    """Section 2: the app itself is not started, its storage and broker see nothing, and each harness is fresh."""
    storage, broker = MemoryStorage(), MemoryBroker()
    app = shop(storage=storage, broker=broker)
    for _ in range(2):
        async with Harness(app, overrides={Meetings: FakeMeetings()}) as h:
            assert h.app is not app
            await h.send(Join())
            await h.settle()
            assert len(h.published(Announced)) == 1
            with pytest.raises(AppNotRunning):
                await app.send(Join())
    assert not app.running
    assert not storage.database.outboxes
    assert not app.telemetry.counts


async def test_an_app_on_sql_runs_on_a_private_sqlite(tmp_path: Path) -> None:
    """Section 2: an app with SQL storage runs under the harness on a private SQLite file with the user's tables."""
    from sqlalchemy import Column, MetaData, String, Table

    from headrace.drivers.sql import SqlStorage

    metadata = MetaData()
    Table("member", metadata, Column("name", String, primary_key=True))
    path = tmp_path / "production.db"

    async def add(request: Leave, session: AsyncSession, events: Events) -> str:
        await session.execute(text("insert into member values ('x')"))
        events.append(Announced("x"))
        return "added"

    async def count(request: Find, session: AsyncSession) -> str:
        return str(await session.scalar(text("select count(*) from member")))

    app = make_app(
        (Leave, add),
        (Find, count),
        (Announced, OnAnnounced),
        storage=SqlStorage(f"sqlite+aiosqlite:///{path}", metadata=metadata),
        broker="sql://",
    )
    for _ in range(2):
        async with Harness(app) as h:
            assert await h.send(Leave()) == "added"
            await h.settle()
            assert await h.send(Find()) == "1"
            assert h.published(Announced) == [Announced("x")]
    assert not path.exists()


async def test_options_of_send_travel() -> None:
    """Section 2: h.send takes correlation_id and metadata as app.send does."""
    seen: list[Envelope] = []

    async def look(request: Leave, envelope: Envelope) -> str:
        seen.append(envelope)
        return ""

    async with Harness(make_app((Leave, look))) as h:
        await h.send(Leave(), correlation_id="c", metadata={"tenant": "t"})
    assert (seen[0].correlationid, seen[0].metadata) == ("c", {"tenant": "t"})


async def test_a_process_that_only_sends_is_tested_whole() -> None:
    """Section 2: under the harness an app runs with all roles, so that settle and published tell of every event."""
    app = shop(roles={"send"})
    async with Harness(app, overrides={Meetings: FakeMeetings()}) as h:
        await h.send(Join("u1"))
        await h.settle()
        assert h.published(Announced) == [Announced("u1")]
        assert h.handled_by(OnAnnounced) == [Announced("u1")]


def test_a_storage_of_another_kind_is_not_replaced_in_silence() -> None:
    """G13: a storage that the harness cannot make a private one of is refused, not swapped for another database."""

    class Own(MemoryStorage):
        pass

    class Foreign:
        def __getattr__(self, name: str) -> Any:
            return getattr(Own(), name)

    app = make_app((Join, raising()), storage=Foreign())
    with pytest.raises(BindingError, match="Foreign"):
        Harness(app)


async def test_a_harness_that_does_not_run_says_how_to_use_it() -> None:
    """Section 2: outside of `async with` the harness says how it is used; a failed start cleans up."""
    h = Harness(make_app((Join, raising())))
    with pytest.raises(BindingError, match="async with Harness"):
        await h.send(Join())
