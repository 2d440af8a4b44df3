"""Reading from RabbitMQ: buffers, positions, take-over, lost connections."""

from __future__ import annotations

import asyncio

import aiormq
import pytest

from headrace.broker import Reading, Topic
from headrace.drivers.rabbitmq import RabbitBroker
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicNotFound
from headrace.testing.conformance.samples import message, numbered
from tests.unit.drivers_rabbitmq.place import Place, bodies, numbers, read
from tests.unit.drivers_rabbitmq.proxy import Proxy

ORDERS = Topic("orders", 1)
READ = Reading("g", "orders")
KINDS = pytest.mark.parametrize("queues", ["classic", "quorum"])


async def started(place: Place, **settings: object) -> RabbitBroker:
    broker = place.broker(**settings)
    await broker.start(None)
    await broker.declare([ORDERS], [READ])
    return broker


async def test_the_buffer_is_bounded(place: Place) -> None:
    """No more than `prefetch` messages come ahead; the next ones come when some are settled (G11)."""
    broker = await started(place, prefetch=10)
    await broker.publish(numbered(25))
    found = await read(broker, 10)
    assert bodies(found) == numbers(10)
    assert await place.length("g", "orders", 0) == 15
    await broker.settle("g", "orders", {0: found[3].position})
    assert bodies(await read(broker, 10, {0: found[3].position})) == numbers(4, 14)


@KINDS
async def test_what_is_given_back_comes_in_order(place: Place, queues: str) -> None:
    """After a release the next reader gets all that was not settled, in the old order, before what is newer (G8)."""
    first, second = await started(place, queues=queues), await started(place, queues=queues)
    await first.publish(numbered(700))
    for taken, (owner, _) in enumerate([(first, second), (second, first)] * 3):
        found = await read(owner, 500)
        assert bodies(found)[:500] == numbers(taken * 7, taken * 7 + 500)
        await owner.settle("g", "orders", {0: found[6].position})
        await owner.release("g", "orders", [0])


@KINDS
async def test_a_reader_waits_for_the_one_before(place: Place, queues: str) -> None:
    """While one process reads a partition another gets nothing of it; when the first is gone, all that it left (G8)."""
    async with Proxy(place.url) as proxy:
        first = await started(place, queues=queues, url=proxy.url)
        second = await started(place, queues=queues)
        await first.publish(numbered(100))
        found = await read(first, 100)
        assert list(await second.read("g", "orders", {0: None}, limit=100)) == []
        await first.settle("g", "orders", {0: found[29].position})
        await first.backlog("g", "orders", {0: None})  # an answer: the acknowledgement has come
        proxy.open = False
        proxy.cut()
        assert bodies(await read(second, 70)) == numbers(30, 100)
        await first.stop()


async def test_positions_of_another_opening_count_as_none(place: Place) -> None:
    """A position from before the connection was lost, or of nobody, reads from the first unsettled message (G8)."""
    broker = await started(place)
    await broker.publish(numbered(10))
    old = (await read(broker, 10))[4].position
    await broker.release("g", "orders", [0])
    for strange in (old, "nobody.3", "3", "", ".", "x.-1"):
        assert bodies(await read(broker, 10, {0: strange})) == numbers(10)
    await broker.settle("g", "orders", {0: old})
    own = (await read(broker, 10))[0].position
    await broker.settle("g", "orders", {0: f"{own.split('.')[0]}.999", 5: own})
    assert bodies(await read(broker, 10)) == numbers(10)


async def test_settling_twice_or_backwards_is_harmless(place: Place) -> None:
    """Settling again, backwards, or at once in several calls acknowledges each message once (G8)."""
    broker = await started(place)
    await broker.publish(numbered(10))
    found = await read(broker, 10)
    await asyncio.gather(
        *(broker.settle("g", "orders", {0: found[index].position}) for index in (6, 2, 6, 4, 0))
    )
    assert bodies(await read(broker, 3)) == numbers(7, 10)
    await broker.release("g", "orders", [0])
    assert bodies(await read(broker, 3)) == numbers(7, 10)


async def test_a_cut_connection_loses_nothing(place: Place) -> None:
    """Readings whose connection is cut again and again go on by themselves: each message in order, none lost (G8)."""
    async with Proxy(place.url) as proxy:
        broker, sender = await started(place, url=proxy.url, prefetch=20), await started(place)
        await sender.publish(numbered(300))
        seen: list[bytes] = []
        after: str | None = None
        rounds = 0
        async with asyncio.timeout(40):
            while len(dict.fromkeys(seen)) < 300:
                rounds += 1
                if rounds % 7 == 0:
                    proxy.cut()
                try:
                    found = await broker.read("g", "orders", {0: after}, limit=13)
                except BrokerUnavailable:
                    await asyncio.sleep(0.02)
                    continue
                for one in found:
                    seen.append(one.message.data)
                    after = one.position
                if found and after is not None:
                    await broker.settle("g", "orders", {0: after})
                await asyncio.sleep(0.005)
        assert list(dict.fromkeys(seen)) == numbers(300)
        await broker.stop()


async def test_listeners_are_woken_within_milliseconds(place: Place) -> None:
    """A message of another process wakes the listener of a partition that is read as soon as it is there (G8)."""
    broker, sender = await started(place), await started(place)
    await broker.read("g", "orders", {0: None}, limit=1)
    woken = asyncio.Event()
    broker.listen("g", "orders", woken.set)
    waits: list[float] = []
    clock = asyncio.get_running_loop().time
    for number in range(20):
        woken.clear()
        await sender.publish(numbered(1))
        start = clock()
        async with asyncio.timeout(5):
            await woken.wait()
        waits.append(clock() - start)
        assert len(await broker.read("g", "orders", {0: None}, limit=100)) == number + 1
    assert sorted(waits)[10] < 0.05


async def test_a_listener_hears_of_a_lost_connection(place: Place) -> None:
    """A reader is woken when its connection is lost, so that it reads again at once (G8)."""
    async with Proxy(place.url) as proxy:
        broker = await started(place, url=proxy.url)
        await broker.read("g", "orders", {0: None}, limit=1)
        woken = asyncio.Event()
        broker.listen("g", "orders", woken.set)
        proxy.cut()
        async with asyncio.timeout(5):
            await woken.wait()
        await broker.stop()


async def test_a_deleted_queue_is_an_error(place: Place) -> None:
    """When the queue of a reading is deleted, `read` says so instead of finding nothing for ever (G13)."""
    broker = await started(place)
    await broker.publish(numbered(1))
    await read(broker, 1)
    async with aiormq.connect(place.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(place.names.queue("g", "orders", 0))
    with pytest.raises(TopicNotFound, match=r"no queue '.*g\.orders\.0'"):
        await read(broker, 2)
    await broker.declare([ORDERS], [READ])
    await broker.publish([message("k", b"anew")])
    assert bodies(await read(broker, 1)) == [b"anew"]


async def test_releasing_while_cancelled_gives_all_back(place: Place) -> None:
    """A release whose caller is cancelled still gives the messages back (G10)."""
    broker, other = await started(place), await started(place)
    await broker.publish(numbered(5))
    await read(broker, 5)
    releasing = asyncio.create_task(broker.release("g", "orders", [0]))
    await asyncio.sleep(0)
    releasing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await releasing
    assert bodies(await read(other, 5)) == numbers(5)


async def test_the_backlog_counts_queue_and_buffer(place: Place) -> None:
    """The backlog is what the queue holds and what was delivered here and stands behind the position (G13)."""
    broker = await started(place, prefetch=10)
    await broker.publish(numbered(25))
    assert await broker.backlog("g", "orders", {0: None}) == 25
    found = await read(broker, 10)
    assert await broker.backlog("g", "orders", {0: None}) == 25
    assert await broker.backlog("g", "orders", {0: found[5].position}) == 19


async def test_groups_with_dots_do_not_share_queues(place: Place) -> None:
    """Group `a` on topic `b.c` and group `a.b` on topic `c` each have queues of their own (G8)."""
    broker = place.broker()
    await broker.start(None)
    readings = [Reading("a", "b.c"), Reading("a.b", "c")]
    await broker.declare([Topic("b.c", 1), Topic("c", 1)], readings)
    await broker.publish([message("k", b"1", topic="b.c"), message("k", b"2", topic="c")])
    assert bodies(await read(broker, 1, group="a", topic="b.c")) == [b"1"]
    assert bodies(await read(broker, 1, group="a.b", topic="c")) == [b"2"]


async def test_stopping_leaves_nothing(place: Place) -> None:
    """After `stop`, called twice, no task is left and all unsettled messages are in the queue (G10)."""
    before = asyncio.all_tasks()
    broker = await started(place)
    await broker.publish(numbered(10))
    await read(broker, 10)
    await broker.stop()
    await broker.stop()
    left = asyncio.all_tasks() - before
    # The client's last task, which notes that the connection is closed, may have a step to go.
    assert not left or not (await asyncio.wait(left, timeout=1))[1]
    assert await place.length("g", "orders", 0) == 10


def test_prefetch_is_fixed_with_quorum_queues() -> None:
    """With quorum queues another prefetch is refused, since it would break the order (G8)."""
    with pytest.raises(ConfigurationError, match="always 500"):
        RabbitBroker(queues="quorum", prefetch=100)


async def test_settling_at_once_from_several_sides(place: Place) -> None:
    """Positions that are settled at the same time, and while the partition is released, trouble nobody."""
    broker = await started(place)
    await broker.publish(numbered(10))
    found = await read(broker, 10)
    await asyncio.gather(
        *(broker.settle("g", "orders", {0: one.position}) for one in found),
        broker.release("g", "orders", [0]),
    )
    left = await read(broker, 0)
    assert bodies(left) == numbers(10 - len(left), 10)
