"""Explanations as a terminal shows them, and as programs read them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import to_builtins
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from headrace.cli.sheets import Sheet
from headrace.cli.tables import at_time, body_text, body_value, facts, heading, indented, table
from headrace.cli.times import for_long
from headrace.envelope import attributes
from headrace.explaining import Explanation, KeyLife, KeyQueue, MessageLife, Relative, Standing
from headrace.explaining.life import LogPlace

_COLOURS: Mapping[str, str] = {
    "dead": "bold red",
    "held": "yellow",
    "waiting": "yellow",
    "handled": "green",
    "published": "green",
    "unknown": "dim",
}
_MOST_BODY_LINES = 20


def explanation_data(explanation: Explanation) -> Mapping[str, object]:
    """An explanation for programs: envelopes by their names on the wire, bodies as what they are."""
    messages: list[object] = []
    for life in explanation.messages:
        plain: dict[str, object] = {name: getattr(life, name) for name in life.__struct_fields__}
        plain["envelope"] = None if life.envelope is None else attributes(life.envelope)
        plain["body"] = None if life.data is None else body_value(life.data)
        del plain["data"]
        messages.append(plain)
    return {
        "asked": explanation.asked,
        "app": explanation.app,
        "at": explanation.at,
        "found": explanation.found,
        "messages": messages,
        "keys": [to_builtins(one) for one in explanation.keys],
        "notes": list(explanation.notes),
    }


def explanation_view(explanation: Explanation) -> list[RenderableType]:
    """An explanation for people."""
    parts: list[RenderableType] = []
    if not explanation.found:
        unknown = Text.assemble("Nothing is known of ", (explanation.asked, "bold"), ". ")
        unknown.append(
            "As an id: it is in no queue, topic or inbox that could be read. As a key: nothing of it waits. It was never "
            "sent, or all of it is done and forgotten."
        )
        parts += [unknown, ""]
        if explanation.keys:
            parts += [heading("where it would be, as a key"), _places(explanation.keys), ""]
    for life in explanation.messages:
        parts += [*_message(life), ""]
    for key in explanation.keys if explanation.found else ():
        parts += [*_key(key), ""]
    parts += [Text(note, "dim") for note in explanation.notes]
    while parts and parts[-1] == "":
        parts.pop()
    return parts


# A message ------------------------------------------------------------------------------------------------------------


def _message(life: MessageLife) -> Iterator[RenderableType]:
    envelope = life.envelope
    yield heading(f"message {life.id}", envelope.type if envelope is not None else "")
    rows: list[tuple[str, str | Text | None]] = [
        ("topic", Text(life.topic) if life.topic is not None else None),
        ("key", Text(life.key) if life.key is not None else None),
        ("raised", _raised(life)),
        ("request", _request(life)),
        ("body", _body(life.data)),
    ]
    yield facts(rows)
    if life.causes:
        yield heading("caused by")
        yield _relatives(life.causes, "<-")
    yield heading("its way")
    yield _way(life)
    for title, relatives in (("it caused", life.effects), ("of the same request", life.related)):
        if relatives:
            yield heading(title)
            yield _relatives(relatives, "->" if title == "it caused" else "--")


def _raised(life: MessageLife) -> Text | None:
    if not life.source:
        return None
    text = Text(f"by {life.source}")
    if life.envelope is not None and life.envelope.time:
        text.append(f" at {life.envelope.time}")
    elif (made := made_at(life.id)) is not None:
        text.append(f" at {at_time(made)}, as its id tells")
    return text


def made_at(id: str) -> float | None:  # noqa: A002 - CloudEvents' own name
    """When an id was made, which a UUIDv7 tells; None for others. Seconds since the epoch."""
    try:
        found = uuid.UUID(id)
    except ValueError:
        return None
    return (found.int >> 80) / 1000 if found.version == 7 else None


def _request(life: MessageLife) -> Text | None:
    envelope = life.envelope
    if envelope is None or envelope.correlationid is None:
        return None
    return Text(f"correlation id {envelope.correlationid}")


def _body(data: bytes | None) -> Text | None:
    if data is None:
        return None
    lines = body_text(data).splitlines()
    if len(lines) > _MOST_BODY_LINES:
        lines = [*lines[:_MOST_BODY_LINES], f"... {len(lines) - _MOST_BODY_LINES} lines more"]
    return Text("\n".join(lines))


def _way(life: MessageLife) -> RenderableType:
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    if life.sent is not None:
        _add(made, "outbox", life.sent)
    if life.log is not None:
        made.add_row(
            "topic",
            Text("there", "green"),
            Text(
                f"partition {life.log.partition} of {life.log.topic}, position {life.log.position}"
            ),
        )
    for one in life.groups:
        _add(made, f"group {one.group}", one)
    for one in life.handlers:
        _add(made, f"after commit {one.handler}", one)
    return indented(made)


def _add(made: Table, name: str, standing: Standing) -> None:
    """A line on where it stands, with the details below."""
    said = Text(standing.why)
    details = " · ".join(_details(standing))
    if details:
        said.append(f"\n{details}", "dim")
    if standing.failure is not None:
        said.append(f"\n{standing.failure.error}: {standing.failure.message}", "red")
    made.add_row(Text(name), Text(standing.where, _COLOURS.get(standing.where, "")), said)


def _details(standing: Standing) -> Iterator[str]:
    if standing.where == "handled":
        yield at_time(standing.since) or ""
        return
    if standing.position is not None:
        yield f"position {standing.position}"
    if standing.partition is not None:
        yield f"partition {standing.partition}"
    if standing.owner is not None:
        yield f"worked by {standing.owner}"
    if standing.attempts and standing.where != "dead":
        yield f"{standing.attempts} failed"
    if standing.due_at is not None:
        left = standing.due_at - time.time()
        yield f"due in {for_long(left)}" if left > 0 else "due now"
    if standing.since is not None:
        yield f"here for {for_long(max(0.0, time.time() - standing.since))}"
    if standing.behind:
        yield f"{standing.behind} wait behind it"


def _relatives(relatives: Iterable[Relative], arrow: str) -> RenderableType:
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style="dim")
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for one in relatives:
        said = Text(one.type)
        if one.where:
            said.append(f"{'  ' if one.type else ''}in {one.where}", "dim")
        if one.note:
            said.append(one.note, "dim")
        made.add_row(arrow, Text(one.id), said)
    return indented(made)


# A key ----------------------------------------------------------------------------------------------------------------


def _key(life: KeyLife) -> Iterator[RenderableType]:
    yield heading(f"key {life.key}", f"of topic {life.topic}")
    for queue in life.queues:
        yield indented(_queue_line(queue))
        if queue.messages:
            yield indented(indented(_standings(queue.messages)))
    if life.log:
        yield indented(Text("in the topic, the latest"))
        yield indented(indented(_log(life.log)))


def _places(keys: Sequence[KeyLife]) -> RenderableType:
    made = table("topic", "with", ">partition", "unread there", "worked by")
    for key in keys:
        for queue in key.queues:
            made.add_row(
                key.topic,
                f"group {queue.group}" if queue.group is not None else "outbox",
                "?" if queue.partition is None else str(queue.partition),
                "-" if queue.unread is None else str(queue.unread),
                queue.owner or Text("nobody", "yellow"),
            )
    return indented(made)


def _queue_line(queue: KeyQueue) -> Text:
    name = f"group {queue.group}" if queue.group is not None else "outbox"
    where = f"partition {queue.partition}" if queue.partition is not None else "partition unknown"
    owner = f", worked by {queue.owner}" if queue.owner is not None else ""
    style = "bold red" if queue.blocked_by is not None else ""
    return Text.assemble((name, "bold"), (f"  {where}{owner}", "dim"), "\n  ", (queue.why, style))


def _standings(standings: Sequence[Standing]) -> Sheet:
    made = table(">position", "state", "id", "type", ">tries", "says")
    for one in standings:
        said = f"{one.failure.error}: {one.failure.message}" if one.failure is not None else ""
        made.add_row(
            str(one.position),
            Text(one.where, _COLOURS.get(one.where, "")),
            one.id,
            one.type,
            str(one.attempts) if one.attempts else "-",
            Text(said.partition("\n")[0], "red"),
        )
    return made


def _log(places: Sequence[LogPlace]) -> Sheet:
    made = table(">position", ">partition", "id", "type", "raised")
    for one in places:
        made.add_row(one.position, str(one.partition), one.id, one.type, one.time)
    return made
