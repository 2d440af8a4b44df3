"""Which dead letters a command is about."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from headrace.cli.ending import Code, Fault
from headrace.dead_letters import DeadLetter, DeadLetters
from headrace.redaction import Redaction, seen_errors, seen_letter
from headrace.storage import DeadErrors, Storage


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for on the command line.

    Args:
        positions: these; or none, and the rest chooses.
        error: a type of error, by its qualified name or the last part of it.
        group: a group.
        topic: a topic.
        all: whichever there are.
    """

    positions: tuple[int, ...] = ()
    error: str | None = None
    group: str | None = None
    topic: str | None = None
    all: bool = False

    def check(self) -> None:
        """Refuse what names nothing, or two things.

        Raises:
            Fault: what to name instead.
        """
        filters = self.error is not None or self.group is not None or self.topic is not None
        if self.positions and (filters or self.all):
            raise Fault(
                "give positions, or --error, --group, --topic or --all, not both.", Code.USAGE
            )
        if not self.positions and not filters and not self.all:
            raise Fault(
                "name the dead letters: positions, --error, --group, --topic, or --all. `headrace dead list` shows them.",
                Code.USAGE,
            )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What there is of it.

    Args:
        count: how many dead letters.
        errors: of those that were chosen otherwise than by position, how many failed of what.
        letters: those that were chosen by position.
        missing: positions that are no dead letters.
        error: the full name of the error that was asked for.
        queues: where they stand.
        behind: how many messages wait behind them; None if they were chosen otherwise than by position.
    """

    count: int
    errors: Sequence[DeadErrors] = ()
    letters: Sequence[DeadLetter] = ()
    missing: tuple[int, ...] = ()
    error: str | None = None
    queues: tuple[str, ...] = field(default=())
    behind: int | None = None


async def choose(letters: DeadLetters, choice: Choice) -> Chosen:
    """Find what was asked for.

    Raises:
        Fault: an error was named that no dead letter has.
    """
    if choice.positions:
        found = {p: await letters.get(p) for p in dict.fromkeys(choice.positions)}
        there = [one for one in found.values() if one is not None]
        return Chosen(
            count=len(there),
            letters=there,
            missing=tuple(p for p, one in found.items() if one is None),
            queues=tuple(dict.fromkeys(one.queue for one in there)),
            behind=sum([await letters.behind(one.position) for one in there]),
        )
    errors = await letters.errors(choice.group, choice.topic)
    error = None if choice.error is None else full_name(choice.error, errors)
    chosen = [one for one in errors if error in (None, one.error)]
    return Chosen(
        count=sum(one.count for one in chosen),
        errors=chosen,
        error=error,
        queues=tuple(dict.fromkeys(one.queue for one in chosen)),
    )


async def check_no_more(letters: DeadLetters, choice: Choice, chosen: Chosen) -> None:
    """Refuse to do with more dead letters what somebody has agreed to do with those that they were shown.

    Raises:
        Fault: there are more by now.
    """
    if choice.positions:
        return
    now = await choose(letters, choice)
    if now.count > chosen.count:
        raise Fault(
            f"there are {now.count} of them now, more than you were shown. Nothing was changed: look again, and then repeat it.",
            Code.FAULT,
        )


async def seen(redaction: Redaction, letters: DeadLetters, chosen: Chosen) -> Chosen:
    """What people may see of it."""
    return replace(
        chosen,
        errors=await seen_errors(redaction, letters, chosen.errors),
        letters=[seen_letter(redaction, one) for one in chosen.letters],
    )


def full_name(given: str, errors: Sequence[DeadErrors]) -> str:
    """The qualified name of an error, of which the last part is enough if only one ends so.

    Raises:
        Fault: two end so.
    """
    known = dict.fromkeys(one.error for one in errors)
    if given in known:
        return given
    ending = [name for name in known if name.rpartition(".")[2] == given]
    if len(ending) > 1:
        raise Fault(f"{given} is {' or '.join(ending)}: give one of these names.", Code.USAGE)
    if ending:
        return ending[0]
    near = difflib.get_close_matches(given, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    names = f" They have {', '.join(name or 'no error' for name in known)}." if known else ""
    raise Fault(f"no dead letter here has the error {given}.{hint or names}", Code.FAULT)


async def unworked(storage: Storage, queues: Sequence[str]) -> list[str]:
    """Those of these queues that no process works now, each with what to start, as a sentence."""
    found: list[str] = []
    for queue in queues:
        owners = await storage.owners(queue)
        if any(one is not None and one.expires_seconds > 0 for one in owners.values()):
            continue
        kind, _, name = queue.partition(":")
        role = "relay" if kind == "outbox" else "consume"
        group, _, topic = name.rpartition("/")
        words = {"outbox": "the outbox", "group": f"group {group} on topic {topic}"}
        found.append(
            f"Nobody works {words.get(kind, 'the after-commit handlers')} now: it goes on when a process with the role "
            f"{role!r} runs (`headrace worker`)."
        )
    return found
