"""Dead letters as a terminal shows them, and as programs read them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from headrace.cli.dead.choosing import Chosen
from headrace.cli.tables import (
    as_written,
    at_time,
    body_text,
    body_value,
    facts,
    heading,
    indented,
    table,
)
from headrace.cli.times import for_long
from headrace.dead_letters import DeadLetter
from headrace.envelope import attributes
from headrace.storage import DeadErrors

_LONGEST_SAMPLE = 200


def errors_view(errors: Sequence[DeadErrors]) -> RenderableType:
    """Dead letters by error."""
    made = table(">count", "where", "topic", "error", ">first", ">newest", "newest says")
    for one in errors:
        made.add_row(
            f"{one.count:,}".replace(",", " "),
            place(one.queue, one.topic),
            one.topic,
            one.error or "-",
            str(one.first_position),
            str(one.last_position),
            _line(one.sample),
        )
    return made


def letters_view(letters: Sequence[DeadLetter]) -> RenderableType:
    """Dead letters one by one."""
    made = table(">position", "where", "type", "key", ">tries", ">age", "error")
    now = time.time()
    for one in letters:
        failure = one.failure
        error = Text(_last(failure.error) if failure else "-")
        if failure is not None and failure.message:
            error.append(f": {_line(failure.message)}", "dim")
        made.add_row(
            str(one.position),
            place(one.queue, one.topic),
            one.envelope.type,
            one.key if one.key is not None else "-",
            str(one.attempts),
            for_long(max(0.0, now - one.at)) if one.at is not None else "-",
            error,
        )
    return made


def letter_view(letter: DeadLetter, behind: int, body: str) -> list[RenderableType]:
    """All of one dead letter.

    Args:
        letter: as people may see it.
        behind: how many messages wait behind it.
        body: what is to be said of the body besides what it is.
    """
    envelope, failure = letter.envelope, letter.failure
    waiting = f"{behind} message{'' if behind == 1 else 's'} of its key"
    parts: list[RenderableType] = [
        heading(f"dead letter {letter.position}", envelope.type),
        facts(
            [
                ("where", _long_place(letter)),
                ("key", letter.key if letter.key is not None else "none: it has no order"),
                ("tried", f"{letter.attempts} times" if letter.attempts != 1 else "once"),
                ("stored", at_time(letter.at)),
                ("behind it", waiting if behind else "nothing waits"),
            ]
        ),
    ]
    if failure is not None:
        parts += ["", heading("error", failure.error), indented(Text(failure.message, "red"))]
        if failure.traceback:
            parts.append(as_written(failure.traceback.rstrip()))
    parts += ["", heading("body", body)]
    parts.append(as_written(body_text(letter.data)))
    parts += ["", heading("envelope")]
    parts.append(facts((name, Text(value)) for name, value in attributes(envelope).items()))
    return parts


def letter_data(letter: DeadLetter, behind: int | None = None) -> Mapping[str, object]:
    """One dead letter for programs."""
    data: dict[str, object] = {
        "position": letter.position,
        "queue": letter.queue,
        "group": letter.group,
        "topic": letter.topic,
        "key": letter.key,
        "attempts": letter.attempts,
        "at": letter.at,
        "failure": letter.failure,
        "envelope": attributes(letter.envelope),
        "body": body_value(letter.data),
    }
    if behind is not None:
        data["behind"] = behind
    return data


def chosen_view(chosen: Chosen) -> list[RenderableType]:
    """What a command is going to change."""
    parts: list[RenderableType] = []
    if chosen.errors:
        parts.append(errors_view(chosen.errors))
    if chosen.letters:
        parts.append(letters_view(chosen.letters))
    if chosen.missing:
        numbers = ", ".join(map(str, chosen.missing))
        parts.append(Text(f"No dead letters, or none any more: {numbers}.", "yellow"))
    if chosen.behind:
        parts.append(f"{chosen.behind} messages wait behind them.")
    return parts


def chosen_data(chosen: Chosen) -> dict[str, object]:
    """The same for programs."""
    return {
        "positions": [one.position for one in chosen.letters] if not chosen.errors else None,
        "missing": list(chosen.missing),
        "errors": list(chosen.errors),
        "behind": chosen.behind,
    }


def place(queue: str, topic: str) -> str:
    """Where a dead letter stands, in few words."""
    kind, _, name = queue.partition(":")
    if kind == "group":
        return f"group {name.removesuffix(f'/{topic}')}"
    return "outbox" if kind == "outbox" else "after commit"


def _long_place(letter: DeadLetter) -> str:
    if letter.group is not None:
        return f"group {letter.group}, topic {letter.topic}"
    if letter.queue.startswith("outbox:"):
        return f"the outbox, on its way to topic {letter.topic}"
    return f"after commit, handler {letter.topic}"


def _line(text: str) -> Text:
    first = text.partition("\n")[0]
    return Text(first if len(first) <= _LONGEST_SAMPLE else f"{first[:_LONGEST_SAMPLE]}...")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
