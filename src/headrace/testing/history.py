"""A history checker: what was committed, published and done, recorded by an app under faults, held against the promises.

Run an app whose commands number their rows per key, kill and stop its processes, let it settle, read what the database and
the broker hold, and ask `check` for what is wrong. It knows nothing of engines: a history is lists of facts.

Source: the history checkers of Jepsen (https://jepsen.io), which judge a system by what its clients saw.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a command did, as its row, its message and its effect all carry it.

    Args:
        id: unique; the same in the row, the message and the effect.
        key: what order is kept within.
        number: its place among the facts of its key, from 1 without gaps; counted by the transaction that commits it.
    """

    id: str
    key: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known after a run has settled. One consuming group; for another, `replace(history, effects=...)`.

    Args:
        committed: the rows of the commands, in the order in which the database numbered them.
        published: the messages of the topic's log, per key in the order of their positions, repeats included.
        effects: what the group's handlers left in the database, in the order in which they did.
        acknowledged: ids of facts whose command had returned to its caller. Default none: nobody wrote them down.
        refused: ids of facts whose command raised an error that says that nothing was committed. Default none.
    """

    committed: Sequence[Fact]
    published: Sequence[Fact]
    effects: Sequence[Fact]
    acknowledged: Collection[str] = ()
    refused: Collection[str] = ()


class Flaw(enum.StrEnum):
    """A kind of broken promise."""

    RACED = "raced"
    """The rows of a key are not numbered 1, 2, 3, ... as committed: transactions saw each other, or a row vanished (G4)."""
    FORGOTTEN = "forgotten"
    """A command was acknowledged, and its row is not there (G4)."""
    REVIVED = "revived"
    """A command was refused, and its row is there (G4)."""
    UNPUBLISHED = "unpublished"
    """A row was committed, and its message is not in the log (G5)."""
    PHANTOM = "phantom"
    """A message or an effect has no committed row (G5)."""
    MISORDERED = "misordered"
    """A message was first published before an earlier one of its key (G6)."""
    LOST = "lost"
    """A row was committed, and has no effect (G5, G7)."""
    TWICE = "twice"
    """A fact had its effect more than once (G7)."""
    OUT_OF_TURN = "out of turn"
    """A fact had its effect before an earlier one of its key (G8)."""
    CHANGED = "changed"
    """A message or an effect has another key or number than the row of the same id."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: which, about which fact, and what was seen."""

    flaw: Flaw
    id: str
    text: str

    def __str__(self) -> str:
        return f"{self.flaw}: {self.id}: {self.text}"


def check(history: History) -> list[Finding]:
    """All that is wrong with a history; an empty list if every promise was kept."""
    return [
        *_rows(history),
        *_answers(history),
        *_messages(history),
        *_effects(history),
    ]


def _rows(history: History) -> Iterator[Finding]:
    last: Counter[str] = Counter()
    for fact in history.committed:
        expected = last[fact.key] + 1
        if fact.number != expected:
            yield Finding(
                Flaw.RACED, fact.id, f"row {fact.number} of key {fact.key!r} stands at {expected}"
            )
        last[fact.key] = fact.number
    for id_, times in Counter(fact.id for fact in history.committed).items():
        if times > 1:
            yield Finding(Flaw.RACED, id_, f"has {times} rows")


def _answers(history: History) -> Iterator[Finding]:
    committed = {fact.id for fact in history.committed}
    for id_ in sorted(set(history.acknowledged) - committed):
        yield Finding(Flaw.FORGOTTEN, id_, "was acknowledged and has no row")
    for id_ in sorted(set(history.refused) & committed):
        yield Finding(Flaw.REVIVED, id_, "was refused and has a row")


def _messages(history: History) -> Iterator[Finding]:
    rows = {fact.id: fact for fact in history.committed}
    yield from _strangers("message", history.published, rows)
    first: dict[str, Fact] = {}
    for fact in history.published:
        first.setdefault(fact.id, fact)
    yield from _order(Flaw.MISORDERED, "was first published", first.values())
    for fact in history.committed:
        if fact.id not in first:
            yield Finding(Flaw.UNPUBLISHED, fact.id, f"{_place(fact)} is not in the log")


def _effects(history: History) -> Iterator[Finding]:
    rows = {fact.id: fact for fact in history.committed}
    yield from _strangers("effect", history.effects, rows)
    yield from _order(Flaw.OUT_OF_TURN, "had its effect", history.effects)
    times = Counter(fact.id for fact in history.effects)
    for fact in history.committed:
        if times[fact.id] == 0:
            yield Finding(Flaw.LOST, fact.id, f"{_place(fact)} has no effect")
    for id_, count in times.items():
        if count > 1:
            yield Finding(Flaw.TWICE, id_, f"has {count} effects")


def _strangers(what: str, facts: Iterable[Fact], rows: Mapping[str, Fact]) -> Iterator[Finding]:
    for fact in dict.fromkeys(facts):
        row = rows.get(fact.id)
        if row is None:
            yield Finding(Flaw.PHANTOM, fact.id, f"the {what} {_place(fact)} has no committed row")
        elif row != fact:
            yield Finding(
                Flaw.CHANGED, fact.id, f"the {what} is {_place(fact)}, the row {_place(row)}"
            )


def _order(flaw: Flaw, did: str, facts: Iterable[Fact]) -> Iterator[Finding]:
    """A fact behind a later one of its key is a finding; a fact that is repeated is one of another kind."""
    highest: dict[str, Fact] = {}
    for fact in facts:
        before = highest.get(fact.key)
        if before is not None and fact.number < before.number:
            yield Finding(
                flaw, fact.id, f"{_place(fact)} {did} after {before.number} ({before.id})"
            )
        else:
            highest[fact.key] = fact


def _place(fact: Fact) -> str:
    return f"{fact.number} of key {fact.key!r}"
