"""The flow that did happen, as a tree for people: what was sent, who handled it, what came of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from headrace.dead_letters import DeadLetter
from headrace.envelope import Message
from headrace.storage import group_queue
from headrace.testing.record import FlowRecord, Raised, Run

_MOST_LETTERS = 100
_MOST_SENDS = 20
_AFTER = "after commit: "


@dataclass(frozen=True, slots=True)
class Node:
    """A line and what stands beneath it."""

    text: str
    beneath: Sequence[Node] = ()


class Flow:
    """Draws a record.

    Args:
        record: what happened in the process and by its consumers.
        published: the messages that the broker has confirmed.
        dead: the dead letters.
        groups: which groups read an event type that is published, by its literal.
    """

    def __init__(
        self,
        record: FlowRecord,
        published: Iterable[Message],
        dead: Sequence[DeadLetter],
        groups: Mapping[str, Sequence[str]],
    ) -> None:
        self._published = {message.envelope.id: message for message in published}
        self._dead = dead
        self._groups = groups
        self._runs: defaultdict[str, list[Run]] = defaultdict(list)
        self._below: defaultdict[str, list[Raised | Run]] = defaultdict(list)
        known: set[str | None] = {one.envelope.id for one in record.runs}
        known |= {one.envelope.id for one in record.emitted}
        self._roots: list[Run | Raised] = []
        for run in record.runs:
            seen = bool(self._runs[run.envelope.id])
            self._runs[run.envelope.id].append(run)
            if run.is_request and not seen:
                self._place(run, known)
        for raised in record.emitted:
            self._place(raised, known)

    def _place(self, one: Run | Raised, known: set[str | None]) -> None:
        cause = one.envelope.causationid
        if cause is not None and cause in known:
            self._below[cause].append(one)
        else:
            self._roots.append(one)

    def __str__(self) -> str:
        if not self._roots:
            return "nothing was sent"
        shown = self._roots[-_MOST_SENDS:]
        lines: list[str] = []
        if len(shown) < len(self._roots):
            lines.append(f"({len(self._roots) - len(shown)} earlier sends are left out)")
        for root in shown:
            _draw(self._node(root), "", "", lines)
        return "\n".join(lines)

    def _node(self, one: Run | Raised) -> Node:
        if isinstance(one, Run):
            text = f"{_short(one.message)}  by {_name(one)}{_outcome(one)}"
            return Node(text, self._raised_by(one.envelope.id, None))
        message = self._published.get(one.envelope.id)
        runs = self._runs[one.envelope.id]
        text = _short(one.event)
        if one.envelope.type in self._groups or message is not None:
            return Node(text + _route(one, message), self._consumed(one, message, runs))
        lines = [
            Node(
                f"by {_name(run)}{_outcome(run)}",
                self._raised_by(one.envelope.id, run if len(runs) > 1 else None),
            )
            for run in runs
            if run.binding.phase == "in_transaction"
        ]
        after = [run for run in runs if run.binding.phase == "after_commit"]
        lines += self._tries(_AFTER, after, one.envelope.id)
        lines += [
            Node(f"{_AFTER}{_letter(letter, told=bool(after))}")
            for letter in self._dead
            if letter.envelope.id == one.envelope.id and _whose(letter) == _AFTER
        ]
        if len(lines) == 1:
            return Node(f"{text}  {lines[0].text}", lines[0].beneath)
        return Node(text if lines else f"{text}  no handler", lines)

    def _raised_by(self, cause: str, run: Run | None) -> list[Node]:
        """What stands beneath a message, or beneath one of several runs of its handlers."""
        return [
            self._node(one)
            for one in self._below[cause]
            if run is None or (isinstance(one, Raised) and one.by is run)
        ]

    def _consumed(
        self, raised: Raised, message: Message | None, runs: Sequence[Run]
    ) -> Sequence[Node]:
        nodes: list[Node] = []
        for group in self._groups.get(raised.envelope.type, ()):
            mine = [run for run in runs if run.group == group]
            nodes += self._tries(f"{group}: ", mine, raised.envelope.id)
            letter = self._letter(group, raised.envelope.id, message)
            if letter is not None:
                nodes.append(Node(f"{group}: {letter}"))
            elif not mine and message is not None:
                nodes.append(Node(f"{group}: not handled yet"))
        return nodes

    def _tries(self, label: str, runs: Sequence[Run], cause: str) -> list[Node]:
        """The runs of each handler, every further try on a line of its own."""
        nodes: list[Node] = []
        before: dict[object, Run] = {}
        final = any(
            one.envelope.id == cause and label.startswith(_whose(one)) for one in self._dead
        )
        for number, run in enumerate(runs, 1):
            last = before.get(run.key)
            before[run.key] = run
            if last is not None and last.undone and last.error is None and run.error is None:
                continue  # run again because of another handler of the message, or of its batch
            text = f"{label}{_name(run)}{_outcome(run)}"
            if last is not None:
                text = f"{label}{_name(run)} again{_later(run.at - last.at)}{_outcome(run)}"
            if number == len(runs) and run.error is not None and not final:
                text += ", to be tried again"
            below = [one for one in self._below[cause] if one.unit == run.unit]
            own = [one for one in below if isinstance(one, Run) or one.by in (run, None)]
            nodes.append(Node(text, [self._node(one) for one in own]))
        return nodes

    def _letter(self, group: str, id_: str, message: Message | None) -> str | None:
        """What became of it if the group did not handle it."""
        if message is None:
            return None
        queue = group_queue(group, message.topic)
        letters = [one for one in self._dead if one.queue == queue]
        for one in letters:
            if one.envelope.id == id_:
                return _letter(one, told=any(run.group == group for run in self._runs[id_]))
        if message.key is not None and not any(
            run.group == group for run in self._runs[id_] if not run.undone
        ):
            for one in letters:
                if (one.topic, one.key) == (message.topic, message.key):
                    return f"held behind the dead letter of key {message.key!r}"
        return None


def _letter(letter: DeadLetter, *, told: bool) -> str:
    """A dead letter in words, with its error unless the tries above tell it."""
    tries = f" after {letter.attempts} attempts" if letter.attempts > 1 else ""
    failure = letter.failure
    if told or failure is None:
        return f"dead letter{tries}"
    error = failure.error.rpartition(".")[2]
    return f"dead letter{tries}: {_cut(error + ': ' + failure.message)}"


def _draw(node: Node, first: str, rest: str, lines: list[str]) -> None:
    lines.append(first + node.text)
    for number, child in enumerate(node.beneath, 1):
        last = number == len(node.beneath)
        branch, trunk = ("└─ ", "   ") if last else ("├─ ", "│  ")
        _draw(child, rest + branch, rest + trunk, lines)


def _route(raised: Raised, message: Message | None) -> str:
    if message is None:
        return "  rolled back" if raised.undone else "  not published yet"
    key = f", key {message.key!r}" if message.key is not None else ""
    return f"  -> topic {message.topic}{key}"


def _name(run: Run) -> str:
    return str(getattr(run.binding.handler, "__qualname__", run.binding.name)).rpartition(".")[2]


def _outcome(run: Run) -> str:
    if not run.ended:
        return "  still running"
    if run.error is not None:
        return f"  failed: {_cut(f'{type(run.error).__name__}: {run.error}')}"
    return "  rolled back" if run.undone else ""


def _later(delta: timedelta) -> str:
    seconds = delta.total_seconds()
    if seconds < 0.5:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size - 0.5:
            return f" {seconds / size:.2g} {unit} later"
    return f" {seconds:.2g} s later"


def _whose(letter: DeadLetter) -> str:
    """How lines about the work begin in which it failed."""
    return _AFTER if letter.group is None else f"{letter.group}: "


def _short(message: object) -> str:
    return _cut(repr(message).rpartition("<locals>.")[2])


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."
