"""Dead letters: seen, redriven, dropped with a reason; of groups and of the outbox alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from headrace.dead_letters import PAGE, DeadLetters
from headrace.errors import ConfigurationError
from headrace.storage import Failure, Lease, State, group_queue, outbox_queue
from headrace.telemetry import Count
from tests.unit.flow import Setting, message, number


class Office(Setting):
    """A setting with dead letters."""

    def __init__(self) -> None:
        super().__init__()
        self.wakes = 0
        self.letters = DeadLetters(self.storage, self.telemetry, wake=self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    async def bury(self, count: int, *, queue: str = group_queue("g", "t"), key: str = "k") -> None:
        """Park messages as dead."""
        (lease,) = (await self.storage.lease(queue, "o", partitions=1, seconds=15)).held
        await self._park(lease, count, key)

    async def _park(self, lease: Lease, count: int, key: str) -> None:
        topic = lease.queue.rpartition("/")[2] if lease.queue.startswith("group:") else "t"
        transaction = self.storage.transaction()
        for n in range(count):
            transaction.park(
                lease,
                message(n, f"{key} {n}", topic=topic),
                state=State.DEAD,
                attempts=3,
                failure=Failure("ValueError", "no"),
            )
        await transaction.commit()


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with Office() as setting:
        yield setting


async def test_a_dead_letter_tells_all_about_itself(office: Office) -> None:
    """Where it stands, whose it is, what it carries and why it is dead (G9, G13)."""
    await office.bury(1, queue=group_queue("a/b", "t"))
    (letter,) = await office.letters.list()
    assert (letter.group, letter.topic, letter.key) == ("a/b", "t", "k 0")
    assert letter.queue == "group:a/b/t"
    assert (letter.attempts, letter.failure) == (3, Failure("ValueError", "no"))
    assert letter.data == b'{"n":0}'
    assert letter.envelope.source == "test"


async def test_dead_letters_of_the_outbox_have_no_group(office: Office) -> None:
    """What could not be published stands in the same list."""
    await office.bury(1, queue=outbox_queue("test"))
    (letter,) = await office.letters.list()
    assert letter.group is None


async def test_they_are_chosen_by_group_and_topic(office: Office) -> None:
    """Group and topic narrow the list, together or alone."""
    for group, topic in (("g", "t"), ("g", "u"), ("h", "t")):
        await office.bury(1, queue=group_queue(group, topic))
    letters = office.letters
    assert [x.queue for x in await letters.list(group="g")] == ["group:g/t", "group:g/u"]
    assert [x.queue for x in await letters.list(topic="t")] == ["group:g/t", "group:h/t"]
    assert [x.queue for x in await letters.list(group="g", topic="u")] == ["group:g/u"]
    assert await letters.list(group="nobody") == []


async def test_long_lists_are_read_by_pages(office: Office) -> None:
    """However many there are, iteration gives each once, and a list no more than its limit (G11)."""
    await office.bury(2 * PAGE + 3)
    positions = [letter.position async for letter in office.letters.iterate()]
    assert len(positions) == len(set(positions)) == 2 * PAGE + 3
    assert positions == sorted(positions)
    assert len(await office.letters.list(limit=5)) == 5
    assert await office.letters.list(limit=0) == []


async def test_a_redrive_marks_counts_and_wakes(office: Office) -> None:
    """Redriven messages are ready with new attempts; the owners are told at once (G9, G13)."""
    await office.bury(2)
    first, second = await office.letters.list()
    assert await office.letters.redrive(first.position, 999) == 1
    ready, dead = office.storage.rows(first.queue)
    assert (ready.state, ready.attempts) == (State.READY, 0)
    assert (dead.position, dead.state) == (second.position, State.DEAD)
    assert office.telemetry.counts[Count.REDRIVEN] == 1
    assert office.wakes == 1


async def test_all_of_a_group_are_redriven_at_once(office: Office) -> None:
    """A whole group, or everything, can be redriven by one call."""
    await office.bury(PAGE + 1, queue=group_queue("g", "t"))
    await office.bury(1, queue=group_queue("h", "t"))
    assert await office.letters.redrive_all(group="g") == PAGE + 1
    assert [letter.group for letter in await office.letters.list()] == ["h"]
    assert await office.letters.redrive_all() == 1
    assert await office.letters.redrive() == 0


async def test_dropping_needs_a_reason(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is given up in silence: the reason is required, logged, and the drop counted (G9, G13)."""
    await office.bury(1)
    (letter,) = await office.letters.list()
    with pytest.raises(ConfigurationError, match="say why"):
        await office.letters.drop(letter.position, reason=" ")
    assert await office.letters.drop(letter.position, reason="a test order") == 1
    assert await office.letters.list() == []
    assert "a test order" in caplog.text
    assert office.telemetry.counts[Count.DROPPED] == 1
    assert office.wakes == 1


async def test_what_is_no_dead_letter_is_left_alone(office: Office) -> None:
    """Redrive and drop touch nothing that is ready, waiting or held (G9)."""
    await office.bury(1)
    (letter,) = await office.letters.list()
    await office.letters.redrive(letter.position)
    assert await office.letters.drop(letter.position, reason="too late") == 0
    (row,) = office.storage.rows(letter.queue)
    assert number(row.message) == 0
    assert replace(row, failure=None).state is State.READY
    assert office.telemetry.counts[Count.DROPPED] == 0
