"""The app: assembles, checks, starts and stops; sends outside of that are refused (G10)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from dishka import Provider, Scope

from headrace import (
    Headrace,
    Limits,
    NotificationEvent,
    RequestMediator,
    Retry,
    Subscription,
    Topic,
)
from headrace.app import Role
from headrace.broker import BrokerGuarantees, Reading
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.errors import AppNotRunning, BrokerUnavailable, ConfigurationError
from headrace.telemetry import Count
from tests.unit.flow import until
from tests.unit.heart import Announced, Gate, Join, Leave, Log, make_app, raising


class Scoped:
    """With it in a handler, every send is a unit of work."""


def waiting(gate: Gate, log: Log, scoped: bool) -> Any:
    async def join(request: Join) -> str:
        try:
            await gate()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        log.append("finished")
        return "finished"

    async def in_unit(request: Join, scoped: Scoped) -> str:
        return await join(request)

    return in_unit if scoped else join


async def test_send_is_refused_before_start_and_after_stop() -> None:
    """Section 2: send on an app that is not running raises AppNotRunning and does nothing."""
    log = Log()

    async def join(request: Join) -> str:
        log.append(request)
        return ""

    app = make_app((Join, join))
    with pytest.raises(AppNotRunning, match="'meetings' is not running"):
        await app.send(Join())
    async with app:
        assert app.running
        await app.send(Join())
    assert not app.running
    with pytest.raises(AppNotRunning):
        await app.send(Join())
    assert len(log) == 1


@pytest.mark.parametrize("scoped", [False, True])
async def test_stopping_lets_sends_under_way_finish_and_takes_no_others(scoped: bool) -> None:
    """G10: stop waits for the sends under way, with a unit of work or without, and refuses new ones meanwhile."""
    gate, log = Gate(), Log()
    app = make_app((Join, waiting(gate, log, scoped)), (Leave, raising()), providers=[Scoped])
    await app.start()
    send = asyncio.create_task(app.send(Join()))
    await gate.reached.wait()
    stop = asyncio.create_task(app.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stop.done()
    with pytest.raises(AppNotRunning, match="stopping"):
        await app.send(Leave())
    gate.opened.set()
    await stop
    assert log == ["finished"]
    assert await send == "finished"


@pytest.mark.parametrize("scoped", [False, True])
@pytest.mark.parametrize("by_mediator", [False, True])
async def test_a_send_under_way_may_send_while_the_app_stops(
    scoped: bool, by_mediator: bool
) -> None:
    """G10: what is under way may still send nested requests while the app stops."""
    gate = Gate()

    async def join(request: Join, mediator: RequestMediator) -> str:
        await gate()
        return await (mediator if by_mediator else app).send(Leave("nested"))

    async def in_unit(request: Join, mediator: RequestMediator, scoped: Scoped) -> str:
        return await join(request, mediator)

    app = make_app((Join, in_unit if scoped else join), (Leave, raising()), providers=[Scoped])
    await app.start()
    send = asyncio.create_task(app.send(Join()))
    await gate.reached.wait()
    stop = asyncio.create_task(app.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    gate.opened.set()
    assert await send == "nested"
    await stop


@pytest.mark.parametrize("scoped", [False, True])
async def test_a_middleware_under_way_is_waited_for(scoped: bool) -> None:
    """G10: a send that waits inside a middleware, as for a retry, is under way too."""
    gate = Gate()

    async def backs_off(request: Any, call_next: Any) -> Any:
        await gate()
        return await call_next(request)

    async def in_unit(request: Join, scoped: Scoped) -> str:
        return "u1"

    app = make_app(
        (Join, in_unit if scoped else raising()), providers=[Scoped], middlewares=[backs_off]
    )
    await app.start()
    send = asyncio.create_task(app.send(Join()))
    await gate.reached.wait()
    stop = asyncio.create_task(app.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stop.done()
    gate.opened.set()
    await stop
    assert await send == "u1"


@pytest.mark.parametrize("scoped", [False, True])
async def test_draining_has_a_deadline(scoped: bool, caplog: pytest.LogCaptureFixture) -> None:
    """G10: stop waits no longer than Limits.drain_seconds and says what was left."""
    gate, log = Gate(), Log()
    app = make_app(
        (Join, waiting(gate, log, scoped)),
        providers=[Scoped],
        limits=Limits(drain_seconds=0.03),
    )
    await app.start()
    send = asyncio.create_task(app.send(Join()))
    await gate.reached.wait()
    async with asyncio.timeout(5):
        await app.stop()
    assert "1 sends were still under way 0.03 s" in caplog.text
    assert app.telemetry.counts[Count.DRAIN_CUT] == 1
    gate.opened.set()
    assert await send == "finished"


async def test_app_scoped_dependencies_outlive_the_sends_under_way() -> None:
    """G10: what lives as long as the app is finalized after the last send has ended."""
    gate, log = Gate(), Log()

    class Pool:
        closed = False

    async def make() -> AsyncIterator[Pool]:
        pool = Pool()
        yield pool
        pool.closed = True
        log.append("pool closed")

    provider = Provider(scope=Scope.APP)
    provider.provide(make, provides=Pool)

    async def join(request: Join, pool: Pool) -> str:
        await gate()
        log.append(f"closed: {pool.closed}")
        return ""

    app = make_app((Join, join), providers=[provider])
    await app.start()
    send = asyncio.create_task(app.send(Join()))
    await gate.reached.wait()
    stop = asyncio.create_task(app.stop())
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(send, stop)
    assert log == ["closed: False", "pool closed"]


def test_an_app_starts_again_on_another_event_loop() -> None:
    """Section 2: an app holds nothing of an event loop before it starts, and can be started again after it stopped."""
    app = make_app((Join, raising()), storage=MemoryStorage(), broker="memory://")

    async def once() -> str:
        async with app:
            answers = await asyncio.gather(*(app.send(Join(str(n))) for n in range(3)))
            await app.settle(5)
            return "".join(answers)

    assert [asyncio.run(once()) for _ in range(2)] == ["012", "012"]


def test_an_app_on_sqlite_starts_again_on_another_event_loop(tmp_path: Any) -> None:
    """Section 2: the same holds for storage and broker in SQLite."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    app = make_app((Join, raising()), storage=url, broker="sql://")

    async def once() -> str:
        async with app:
            return await app.send(Join("x"))

    assert [asyncio.run(once()) for _ in range(2)] == ["x", "x"]


async def test_a_start_that_fails_half_way_stops_what_was_started() -> None:
    """Section 2: when the broker fails to start, the storage is stopped again and the next start works."""

    class Storage(MemoryStorage):
        def __init__(self) -> None:
            super().__init__()
            self.life: list[str] = []

        async def start(self, app: str, *, partitions: int) -> Sequence[str]:
            self.life.append("start")
            return await super().start(app, partitions=partitions)

        async def stop(self) -> None:
            self.life.append("stop")
            await super().stop()

    class Broker(MemoryBroker):
        fails = True

        async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
            if self.fails:
                raise BrokerUnavailable("no broker today")
            await super().declare(topics, readings)

    storage, broker = Storage(), Broker()
    app = make_app((Join, raising()), storage=storage, broker=broker)
    with pytest.raises(BrokerUnavailable):
        await app.start()
    assert storage.life == ["start", "stop"]
    assert not app.running
    with pytest.raises(AppNotRunning):
        await app.send(Join())
    broker.fails = False
    async with app:
        assert await app.send(Join()) == "u1"
    assert storage.life == ["start", "stop"] * 2


async def test_starts_and_stops_come_one_after_another() -> None:
    """Section 2: of two starts at once one does the work, of two stops too, and a start during a stop waits for it."""
    starts: list[str] = []

    class Storage(MemoryStorage):
        async def start(self, app: str, *, partitions: int) -> Sequence[str]:
            starts.append(app)
            await asyncio.sleep(0)
            return await super().start(app, partitions=partitions)

    app = make_app((Join, raising()), storage=Storage())
    await asyncio.gather(app.start(), app.start())
    assert starts == ["meetings"]
    await asyncio.gather(app.stop(), app.stop(), app.start())
    assert app.running
    assert starts == ["meetings", "meetings"]
    assert await app.send(Join()) == "u1"
    await app.stop()


async def test_a_broker_without_storage_warns_at_start(caplog: pytest.LogCaptureFixture) -> None:
    """G13: an app with a broker and no storage says at start that it can lose events."""
    async with make_app((Join, raising()), broker="memory://"):
        pass
    assert "has a broker and no storage" in caplog.text


class Told(NotificationEvent, type="meetings.told.v1", topic="told"):
    text: str


class LastingBroker(MemoryBroker):
    @property
    def guarantees(self) -> BrokerGuarantees:
        return replace(super().guarantees, durable=True)


async def hear(event: Told) -> None:
    """Hears."""


@pytest.mark.parametrize(
    ("broker", "roles", "warned"),
    [
        (LastingBroker(), {"send", "consume"}, True),
        (LastingBroker(), {"send"}, False),
        (MemoryBroker(), {"send", "consume"}, False),
    ],
)
async def test_consuming_without_storage_warns_at_start(
    broker: MemoryBroker, roles: set[Role], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """G13: an app that consumes from a lasting broker without storage says that its books are in one process."""
    async with make_app((Join, raising()), (Told, hear), broker=broker, roles=roles):
        pass
    assert ("consumes without storage" in caplog.text) is warned


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"name": ""}, "name goes onto the wire"),
        ({"name": "a\nb"}, "name goes onto the wire"),
        ({"name": "a" * 201}, "the name has 201 characters"),
        ({"roles": {"sned"}}, "roles="),
        ({"roles": "send"}, "roles='send'"),
        ({"roles": ()}, "roles="),
        ({"unhandled": "wrn"}, "unhandled='wrn'"),
        ({"storage": "oracle://"}, "no storage has the scheme"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], match: str) -> None:
    """G13: a misspelt role, mode, scheme or an empty name is refused when the app is made."""
    with pytest.raises(ConfigurationError, match=match):
        Headrace(**{"name": "m", **settings})


async def test_cancelling_a_send_cancels_its_handler() -> None:
    """G3: cancelling a send cancels the handler that it waits for."""
    gate, log = Gate(), Log()
    async with make_app((Join, waiting(gate, log, False))) as app:
        send = asyncio.create_task(app.send(Join()))
        await gate.reached.wait()
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
    assert log == ["cancelled"]


async def test_a_consumer_makes_a_deleted_topic_again_with_the_partitions_that_the_app_says() -> (
    None
):
    """G6: made with another number, relays and the next start would refuse the topic."""
    broker = MemoryBroker()

    async def seat(event: Announced) -> None: ...

    app = make_app(
        (Announced, seat),
        storage=MemoryStorage(),
        broker=broker,
        roles={"consume"},
        topics=[Topic("meetings", partitions=3)],
        limits=Limits(poll_seconds=0.01),
    )
    async with app:
        del broker._topics["meetings"]
        await until(lambda: "meetings" in broker._topics)
        assert await broker.partitions("meetings") == 3


async def test_a_stop_tells_of_dead_letters_that_end_with_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """G13: without storage they are in memory, with all that they hold; the broker was told that they are done with."""
    fails = asyncio.Event()

    async def seat(event: Announced) -> None:
        fails.set()
        raise ValueError("no seat")

    app = make_app(
        (Join, raising(Announced(), Announced(), Announced())),
        (Announced, seat),
        broker=LastingBroker(),
        subscriptions=[Subscription(retry=Retry(attempts=1))],
    )
    async with app:
        await app.send(Join())
        await fails.wait()
        await app.settle(5)
    assert "1 dead letters, and 2 messages that wait behind them, are in memory" in caplog.text
