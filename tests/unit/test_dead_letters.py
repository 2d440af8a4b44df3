"""Dead letters: seen, redriven, dropped with a reason; of groups and of the outbox alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from msgspec import structs

from headrace.dead_letters import PAGE, DeadLetter, DeadLetters
from headrace.errors import ConfigurationError, DecodeError
from headrace.storage import (
    AuditNote,
    Failure,
    Lease,
    State,
    after_queue,
    group_queue,
    outbox_queue,
)
from headrace.telemetry import Count, LogEvent
from tests.unit.flow import Setting, message, number


class Office(Setting):
    """A setting with dead letters."""

    def __init__(self) -> None:
        super().__init__()
        self.wakes = 0
        self.letters = DeadLetters(self.storage, self.telemetry, wake=self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    async def bury(
        self,
        count: int,
        *,
        queue: str = group_queue("g", "t"),
        key: str = "k",
        error: str = "ValueError",
    ) -> None:
        """Park messages as dead."""
        (lease,) = (await self.storage.lease(queue, "o", partitions=1, seconds=15)).held
        await self._park(lease, count, key, error)

    async def _park(self, lease: Lease, count: int, key: str, error: str) -> None:
        topic = lease.queue.rpartition("/")[2] if lease.queue.startswith("group:") else "t"
        transaction = self.storage.transaction()
        for n in range(count):
            transaction.park(
                lease,
                message(n, f"{key} {n}", topic=topic),
                state=State.DEAD,
                attempts=3,
                failure=Failure(error, "no"),
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


async def test_what_was_done_is_counted_by_place(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """A rate of redrives tells of which queue and topic; the record of one place tells that too (G13)."""
    await office.bury(2, queue=group_queue("g", "t"))
    await office.bury(1, queue=outbox_queue("test"))
    outbox = next(one for one in await office.letters.list() if one.group is None)
    assert await office.letters.redrive_all(by="ann") == 3
    assert {
        dict(labels)["queue"]: amount
        for (what, labels), amount in office.telemetry.labelled.items()
        if what is Count.REDRIVEN and dict(labels)["topic"] == "t"
    } == {"group:g/t": 2, outbox.queue: 1}
    (several,) = details(caplog)
    assert several == {
        "event": LogEvent.REDRIVEN,
        "app": "test",
        "topic": "t",
        "messages": 3,
        "by": "ann",
    }


async def test_what_was_done_to_a_delivery_is_counted_by_its_handler(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """As its retries and its death are: its topic is no topic of a broker (G13)."""
    await office.bury(1, queue=after_queue("test"))
    assert await office.letters.redrive_all() == 1
    place = {"handler": "t", "queue": "after:test", "topic": "after-commit"}
    assert dict(next(iter(office.telemetry.labelled))[1]) == place
    (record,) = details(caplog)
    assert record.items() >= place.items()


async def test_a_record_of_one_dead_letter_names_it(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever follows a message finds who edited it (G13)."""
    await office.bury(1, queue=group_queue("g", "t"))
    (letter,) = await office.letters.list()
    await office.letters.edit(letter.position, b"{}")
    assert dict(next(iter(office.telemetry.labelled))[1]) == {"queue": "group:g/t", "topic": "t"}
    (edited,) = details(caplog)
    assert edited["event"] == LogEvent.EDITED
    assert (edited["group"], edited["topic"]) == ("g", "t")
    assert (edited["message_id"], edited["position"]) == (letter.envelope.id, letter.position)


async def test_those_that_somebody_else_redrove_are_counted_without_a_place(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage tells how many were dead letters still, not which: no part is told wrongly (G13)."""
    await office.bury(2, queue=group_queue("g", "t"))
    await office.bury(1, queue=outbox_queue("test"))
    redrive = office.storage.redrive

    async def late(positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        await redrive(positions[:1])
        return await redrive(positions, audit=audit)

    monkeypatch.setattr(office.storage, "redrive", late)
    assert await office.letters.redrive_all() == 2
    assert office.telemetry.counts[Count.REDRIVEN] == 2
    assert not office.telemetry.labelled


def details(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [vars(record)["headrace"] for record in caplog.records]


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
    assert structs.replace(row, failure=None).state is State.READY
    assert office.telemetry.counts[Count.DROPPED] == 0


async def test_they_are_chosen_by_error_and_queue(office: Office) -> None:
    """The type of error and the queue narrow the list too, and pages go on behind a position."""
    await office.bury(2)
    await office.bury(2, error="KeyError")
    await office.bury(1, queue=outbox_queue("test"), error="KeyError")
    letters = office.letters
    first, second, third = await letters.list(error="KeyError")
    assert [x.group for x in (first, second, third)] == ["g", "g", None]
    assert await letters.list(error="KeyError", after=first.position) == [second, third]
    assert await letters.list(error="KeyError", group="g", limit=1) == [first]
    assert await letters.list(queue=outbox_queue("test")) == [third]
    assert await letters.list(queue=outbox_queue("test"), group="g") == []
    assert [x async for x in letters.iterate(error="KeyError", topic="t")] == [first, second, third]


async def test_names_with_slashes_are_told_apart(office: Office) -> None:
    """The group a/b of topic t and the group a of topic b/t share a queue, and are chosen each for itself."""
    assert group_queue("a/b", "t") == group_queue("a", "b/t")
    await office.bury(1, queue=group_queue("a/b", "t"))
    assert len(await office.letters.list(group="a/b")) == 1
    assert await office.letters.list(group="a") == []
    assert await office.letters.list(group="a", topic="b/t") == []


async def test_errors_are_counted(office: Office) -> None:
    """How many failed of what, of all or of one group or topic, the most frequent first (G13)."""
    await office.bury(1)
    await office.bury(2, queue=group_queue("h", "u"), error="KeyError")
    found = await office.letters.errors()
    assert [(x.queue, x.topic, x.error, x.count, x.sample) for x in found] == [
        ("group:h/u", "u", "KeyError", 2, "no"),
        ("group:g/t", "t", "ValueError", 1, "no"),
    ]
    assert await office.letters.errors("g") == found[1:]
    assert await office.letters.errors(topic="u") == found[:1]
    assert await office.letters.errors(queue="group:g/t") == found[1:]
    assert await office.letters.errors("nobody") == []


async def test_one_is_found_by_its_position(office: Office) -> None:
    """A position gives its dead letter, or nothing if that is none (any more), and tells when it came."""
    await office.bury(2)
    _, second = await office.letters.list()
    assert await office.letters.get(second.position) == second
    assert second.at is not None
    await office.letters.redrive(second.position)
    assert await office.letters.get(second.position) is None
    assert await office.letters.get(10_000) is None


async def test_what_waits_behind_one_is_counted(office: Office) -> None:
    """How many messages a dead letter keeps waiting is known before anything is done (G9, G13)."""
    (lease,) = (
        await office.storage.lease(group_queue("g", "t"), "o", partitions=1, seconds=15)
    ).held
    transaction = office.storage.transaction()
    for n, state in enumerate([State.DEAD, State.HELD, State.HELD]):
        transaction.park(lease, message(n, "k"), state=state)
    await transaction.commit()
    (letter,) = await office.letters.list()
    assert await office.letters.behind(letter.position) == 2


async def test_one_gets_another_body(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """An edit replaces the body alone; it is logged, counted and recorded with its author (G9, G13)."""
    await office.bury(1)
    (letter,) = await office.letters.list()
    assert await office.letters.edit(letter.position, b'{"n":12}', by="ann")
    (edited,) = await office.letters.list()
    assert edited == replace(letter, data=b'{"n":12}')
    assert office.telemetry.counts[Count.EDITED] == 1
    assert "'ann'" in caplog.text
    (record,) = await office.storage.audits("test")
    assert (record.who, record.action) == ("ann", "edit")
    assert "7 bytes became 8" in record.detail
    assert letter.envelope.id in record.detail


async def test_an_edit_of_none_changes_nothing(office: Office) -> None:
    """A dead letter that somebody redrove meanwhile keeps its body (G9)."""
    await office.bury(1)
    (letter,) = await office.letters.list()
    await office.letters.redrive(letter.position)
    assert not await office.letters.edit(letter.position, b"{}")
    (row,) = office.storage.rows(letter.queue)
    assert row.message.data == letter.data
    assert office.telemetry.counts[Count.EDITED] == 0


async def test_an_edit_is_checked_first(office: Office) -> None:
    """What the check refuses is not stored, and leaves no record."""

    def refuse(letter: DeadLetter, data: bytes) -> None:
        raise DecodeError(f"{letter.position} cannot be {data!r}")

    await office.bury(1)
    letters = DeadLetters(office.storage, office.telemetry, check=refuse)
    (letter,) = await letters.list()
    with pytest.raises(DecodeError, match="cannot be b'no'"):
        await letters.edit(letter.position, b"no")
    assert await letters.list() == [letter]
    assert await office.storage.audits("test") == []


async def test_every_change_tells_who_made_it(office: Office) -> None:
    """Redrives and drops leave a record that says of whom, of what and why, also when all is gone (G13)."""
    await office.bury(2)
    first, second = await office.letters.list()
    await office.letters.redrive(first.position, by="ann")
    await office.letters.drop(second.position, reason="a test order", by="bob")
    await office.letters.drop(second.position, reason="once more", by="bob")
    dropped, redriven = await office.storage.audits("test")
    assert (redriven.who, redriven.action) == ("ann", "redrive")
    assert f"{first.position} (" in redriven.detail
    assert (dropped.who, dropped.action) == ("bob", "drop")
    assert "a test order" in dropped.detail
    assert all(part in dropped.detail for part in (second.envelope.id, "'k 1'", "group:g/t"))


async def test_all_with_an_error_are_redriven_or_dropped(office: Office) -> None:
    """What failed of one error is repaired by one call, with a record for each transaction (G9)."""
    await office.bury(PAGE + 1, error="KeyError")
    await office.bury(3)
    await office.bury(2, queue=group_queue("h", "t"), error="KeyError")
    letters = office.letters
    assert await letters.redrive_all(group="g", error="KeyError", by="ann") == PAGE + 1
    assert [x.count for x in await letters.errors()] == [3, 2]
    assert await letters.drop_all(error="KeyError", reason="tests", by="ann") == 2
    assert len(await letters.list()) == 3
    with pytest.raises(ConfigurationError, match=r"drop_all\(group='g', reason=' '\): say why"):
        await letters.drop_all(group="g", reason=" ")
    assert await letters.drop_all(topic="t", reason="tests") == 3
    actions = [record.action for record in await office.storage.audits("test")]
    assert actions == ["drop", "drop", "redrive", "redrive"]
