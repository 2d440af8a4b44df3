"""What each command and each delivery is to suffer: decided by the seed and an id alone, so that every process agrees."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

HOPELESS_KEYS = ("k0", "k1")
"""Only their messages may fail until they are healed: what stands behind such a one waits for the end of the run."""
KEYS = (*HOPELESS_KEYS, *(f"k{n}" for n in range(2, 12)))


class Fate(enum.StrEnum):
    """What becomes of a command."""

    GOOD = "good"
    SLOW = "slow"
    REFUSED_BEFORE = "refused before writing"
    REFUSED_AFTER = "refused after writing"
    REFUSED_IN_EVENT = "refused in the event handler"
    NESTED = "nested"
    NESTED_REFUSED = "nested is refused, and the error is caught"
    NESTED_UNDONE = "nested is undone by its savepoint"


REFUSED = frozenset(
    {Fate.REFUSED_BEFORE, Fate.REFUSED_AFTER, Fate.REFUSED_IN_EVENT, Fate.NESTED_REFUSED}
)
"""Commands of these fates commit nothing."""
WITH_NESTED = frozenset({Fate.NESTED, Fate.NESTED_REFUSED, Fate.NESTED_UNDONE})


class Trouble(enum.StrEnum):
    """What happens when a message is handled."""

    NONE = "none"
    SLOW = "slow"
    BEFORE = "fails before writing"
    AFTER = "fails after writing"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the handling of one message in one group goes.

    Args:
        trouble: how it fails.
        times: the attempts in one process that fail; None for all, until the run is healed.
    """

    trouble: Trouble
    times: int | None = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One command: its key, how many facts it writes, its fate, and the key of the command nested in it."""

    key: str
    facts: int
    fate: Fate
    nested_key: str


def task(seed: int, id_: str) -> Task:
    """The command of this id."""
    dice = random.Random(f"{seed}/command/{id_}")
    fate = dice.choices(list(Fate), weights=(50, 8, 6, 8, 7, 8, 5, 8))[0]
    return Task(dice.choice(KEYS), dice.choice((1, 1, 1, 2, 3)), fate, dice.choice(KEYS))


def fact_ids(id_: str, task: Task) -> list[str]:
    """The facts that the command writes when it is not refused; those of a nested command are its own."""
    return [f"{id_}.{n}" for n in range(task.facts)]


def nested_id(id_: str) -> str:
    """The command that the command of this id sends, if it sends one."""
    return f"{id_}n"


def delivery(seed: int, stage: str, id_: str, key: str) -> Delivery:
    """How a message goes in one group."""
    dice = random.Random(f"{seed}/{stage}/{id_}")
    kind = dice.random()
    how = dice.choice((Trouble.BEFORE, Trouble.AFTER))
    if kind < 0.04 and key in HOPELESS_KEYS:
        return Delivery(how, None)
    if kind < 0.05:
        return Delivery(how, 4)  # more than the attempts of one round: a dead letter
    if kind < 0.13:
        return Delivery(how, dice.choice((1, 2)))
    return Delivery(Trouble.SLOW if kind < 0.18 else Trouble.NONE)
