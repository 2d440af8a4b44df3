"""The harness on virtual time: retries of hours settle at once, what is due comes in order, nothing is waited for."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from headrace import Envelope, EventMap, Events, Headrace, Limits, RequestMap, Subscription
from headrace.envelope import now as envelope_now
from headrace.errors import DrainTimeout
from headrace.storage import State, group_queue
from headrace.subscriptions import Retry
from headrace.testing import Harness
from tests.unit.heart import Announced, Gate, Join, Joined, make_app, raising

HOURS = Retry(attempts=3, initial_seconds=3600, factor=10, max_seconds=1e6, jitter=0.0)
STORAGES = [("memory://", "memory://"), ("sqlite+aiosqlite:///none.db", "sql://")]


class Flaky:
    """A handler that fails so many times for each user, and notes the envelope's time and the virtual one of each try."""

    def __init__(self, failures: int = 1) -> None:
        self.failures = failures
        self.tries: list[tuple[str, datetime]] = []
        self.now: Callable[[], datetime] | None = None

    def handler(self) -> Any:
        async def handle(event: Announced) -> None:
            assert self.now is not None
            self.tries.append((event.user, self.now()))
            if sum(user == event.user for user, _ in self.tries) <= self.failures:
                raise ValueError("not yet")

        return handle


def shop(handler: Any, retry: Retry = HOURS, **settings: Any) -> Headrace:
    given = {"storage": "memory://", "broker": "memory://", **settings}
    subscriptions = [Subscription(retry=retry)]
    return make_app((Join, announce()), (Announced, handler), subscriptions=subscriptions, **given)


def announce() -> Any:
    async def join(request: Join, events: Events) -> str:
        events.append(Announced(request.user))
        return ""

    return join


@pytest.mark.parametrize(("storage", "broker"), STORAGES)
async def test_retries_of_hours_settle_at_once(storage: str, broker: str) -> None:
    """When only a retry due later is left, virtual time goes on to it."""
    flaky = Flaky(failures=2)
    async with Harness(shop(flaky.handler(), storage=storage, broker=broker)) as h:
        flaky.now = lambda: h.now
        began, before = h.now, time.monotonic()
        await h.send(Join("u1"))
        await h.settle()
        assert time.monotonic() - before < 20  # real seconds, on a machine however busy
        after = [round((at - began).total_seconds() / 3600, 1) for _, at in flaky.tries]
        assert after == [0.0, 1.0, 11.0]
        assert h.dead_letters == []


@pytest.mark.parametrize(("storage", "broker"), STORAGES)
async def test_settle_can_stop_before_retries(storage: str, broker: str) -> None:
    """settle(retries=False) leaves what is due later alone; advance passes just so much time."""
    flaky = Flaky()
    async with Harness(shop(flaky.handler(), storage=storage, broker=broker)) as h:
        flaky.now = lambda: h.now
        await h.send(Join("u1"))
        await h.settle(retries=False)
        assert len(flaky.tries) == 1
        assert "to be tried again" in h.flow()
        await h.advance(minutes=59)
        assert len(flaky.tries) == 1
        await h.advance(timedelta(minutes=1))
        assert len(flaky.tries) == 2


async def test_what_is_due_comes_in_order_of_due_time() -> None:
    """Advance goes from one due time to the next, and settles each before the next."""
    flaky = Flaky()
    async with Harness(shop(flaky.handler())) as h:
        flaky.now = lambda: h.now
        for user in ("u1", "u2", "u3"):
            await h.send(Join(user))
            await h.settle(retries=False)
            await h.advance(minutes=10)
        await h.advance(days=3)
        second = flaky.tries[3:]
        assert [user for user, _ in second] == ["u1", "u2", "u3"]
        gaps = [b - a for (_, a), (_, b) in itertools.pairwise(second)]
        assert [round(gap.total_seconds() / 60) for gap in gaps] == [10, 10]


async def test_an_after_commit_handler_is_retried_on_virtual_time() -> None:
    """Durable after-commit deliveries wait for their retries as consumed messages do."""
    tries: list[str] = []

    async def mail(event: Joined) -> None:
        tries.append(event.user)
        if len(tries) < 3:
            raise ValueError("no mail")

    requests, events = RequestMap(), EventMap()
    requests.bind(Join, raising(Joined("u1")))
    events.bind(Joined, mail, phase="after_commit")
    after = Subscription(retry=HOURS)
    app = Headrace("m", requests=requests, events=events, storage="memory://", after_commit=after)
    async with Harness(app) as h:
        began = h.now
        await h.send(Join())
        await h.settle()
        assert tries == ["u1", "u1", "u1"]
        assert h.now - began > timedelta(hours=11)
        assert h.retried(mail) == [Joined("u1"), Joined("u1")]


async def test_envelopes_carry_virtual_time() -> None:
    """What is sent after advance(days=3) says so, and ids stay in order."""
    seen: list[Envelope] = []

    async def look(event: Announced, envelope: Envelope) -> None:
        seen.append(envelope)

    async with Harness(shop(look)) as h:
        await h.send(Join("u1"))
        await h.settle()
        await h.advance(days=3)
        await h.send(Join("u2"))
        await h.settle()
        first, second = (datetime.fromisoformat(one.time) for one in seen)
        assert timedelta(days=3) <= second - first < timedelta(days=3, minutes=2)
        assert abs(h.now - second) < timedelta(minutes=2)
        assert seen[0].id < seen[1].id


async def test_two_harnesses_have_a_time_each() -> None:
    """Virtual time belongs to a harness: two of one test do not share it."""
    async with Harness(shop(raising())) as one, Harness(shop(raising())) as other:
        await one.advance(days=1)
        assert one.now - other.now > timedelta(hours=23)


async def test_harnesses_that_end_in_the_order_of_their_start_leave_no_time_behind() -> None:
    """What is made after both has the computer's time, whichever of them ended last."""
    first, second = Harness(shop(Flaky(0).handler())), Harness(shop(Flaky(0).handler()))
    await first.__aenter__()
    await second.__aenter__()
    await first.advance(days=3)
    await first.__aexit__(None, None, None)
    await second.__aexit__(None, None, None)
    made = datetime.fromisoformat(envelope_now())
    assert abs(made - datetime.now(made.tzinfo)) < timedelta(hours=1)


@pytest.mark.parametrize(("storage", "broker"), STORAGES)
async def test_leases_do_not_run_out_by_virtual_time(storage: str, broker: str) -> None:
    """A jump of years loses no lease: who works what is a matter of real time."""
    flaky = Flaky(failures=0)
    async with Harness(shop(flaky.handler(), storage=storage, broker=broker)) as h:
        flaky.now = lambda: h.now
        await h.send(Join("u1"))
        await h.settle()
        await h.advance(days=3650)
        await h.send(Join("u2"))
        await h.settle()
        assert [user for user, _ in flaky.tries] == ["u1", "u2"]
        assert h.app.telemetry.counts["headrace.lease.lost"] == 0  # type: ignore[index]


@pytest.mark.parametrize(("storage", "broker"), STORAGES)
async def test_the_inbox_forgets_by_virtual_time(storage: str, broker: str) -> None:
    """Retention of the inbox goes by virtual time: two weeks pass at once."""
    limits = Limits(inbox_retention_seconds=14 * 86_400)
    flaky = Flaky(failures=0)
    async with Harness(shop(flaky.handler(), storage=storage, broker=broker, limits=limits)) as h:
        flaky.now = lambda: h.now
        await h.send(Join("u1"))
        await h.settle()
        bookkeeping = h.app.parts.bookkeeping
        await h.advance(days=13)
        assert await inbox_of(bookkeeping) == 1
        await h.advance(days=2)
        assert await inbox_of(bookkeeping) == 0


async def inbox_of(storage: Any) -> int:
    """How many messages a storage remembers as handled."""
    database = storage.database
    if hasattr(database, "inbox"):
        return len(database.inbox)
    from sqlalchemy import func, select

    from headrace.drivers.sql.schema import inbox
    from headrace.drivers.sql.steps import Step

    (found,) = await database.read(Step(select(func.count(inbox.c.number)), {}))
    return int(found.rows[0][0])


async def test_the_age_of_a_backlog_goes_by_virtual_time() -> None:
    """What waits gets older as virtual time passes."""
    flaky = Flaky(failures=9)
    app = shop(flaky.handler(), Retry(attempts=9, initial_seconds=1e6, max_seconds=1e6))
    async with Harness(app) as h:
        flaky.now = lambda: h.now
        await h.send(Join("u1"))
        await h.settle(retries=False)
        await h.advance(hours=5)
        backlog = await h.app.parts.bookkeeping.backlog(group_queue("meetings", "meetings"))
        assert backlog.waiting == 1
        assert 5 * 3600 <= backlog.oldest_seconds < 5 * 3600 + 120
        (row,) = h.app.parts.bookkeeping.database.rows.values()  # type: ignore[attr-defined]
        assert row.state is State.WAITING


async def test_time_does_not_go_back() -> None:
    """Advance with a negative time is refused."""
    async with Harness(shop(raising())) as h:
        with pytest.raises(ValueError, match="does not go back"):
            await h.advance(days=-1)


async def test_a_settle_that_does_not_end_tells_what_is_left_and_what_happened() -> None:
    """The safety net fails with what is under way and with the flow that did happen."""
    gate = Gate()

    async def stuck(event: Announced) -> None:
        await gate()

    async with Harness(shop(stuck)) as h:
        await h.send(Join("u1"))
        async with asyncio.timeout(30):
            await gate.reached.wait()
        with pytest.raises(DrainTimeout, match="group 'meetings' is at work") as failure:
            await h.settle(timeout_seconds=0.05)
        (note,) = failure.value.__notes__
        assert "meetings: stuck  still running" in note
        gate.opened.set()
        await h.settle()
        assert h.handled_by(stuck) == [Announced("u1")]
