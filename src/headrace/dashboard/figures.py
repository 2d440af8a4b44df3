"""The figures on the flow: what stands at each arrow, in each row of its table, and what is wrong where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from headrace.dashboard.counted import Amount, Counts
from headrace.dashboard.live import Now
from headrace.dashboard.words import UNKNOWN, age, number, rate
from headrace.drawing.graph import Edge, Graph, Node
from headrace.storage import Backlog
from headrace.telemetry import Count

State = Literal["", "flows", "late", "failing"]
"""Nothing moves; something does; something waits for long or is held; something fails or is dead."""

LATE_SECONDS = 30.0
"""The age of the oldest message that waits, from which on it counts as late."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What is said at one place.

    Args:
        text: the figure.
        state: see `State`.
    """

    text: str
    state: State = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a handler, a topic, or a group on a topic.

    Args:
        id: of the row.
        kind: what it is.
        name: for people.
        about: what it takes or raises.
        figures: rate, total, failed or dead, waiting; each has the row's id and its column as name.
    """

    id: str
    kind: str
    name: str
    about: str


class Figures:
    """All figures of one reading.

    Args:
        graph: of the app.
        now: the reading.
    """

    def __init__(self, graph: Graph, now: Now) -> None:
        self._graph = graph
        self._now = now
        self._counts: Counts = now.counts
        # Some process counts sends and handlers by name; where none does, nothing was counted is not nothing was done.
        self._observed = any(now.counts.of(one).total for one in (Count.SENT, Count.HANDLED))
        self._backlogs: dict[tuple[str, str], tuple[int | None, Backlog]] = {}
        if now.status is not None:
            self._backlogs = {
                (one.group, one.topic): (one.behind, one.backlog) for one in now.status.groups
            }

    def edges(self) -> Mapping[str, Figure]:
        """By the id of the edge."""
        found = ((edge.id, self._edge(edge)) for edge in self._graph.edges)
        return {edge: figure for edge, figure in found if figure is not None}

    def cells(self) -> Mapping[str, Figure]:
        """By the id of the cell: its row and its column."""
        return dict(self._cells())

    def tiles(self) -> Mapping[str, Figure]:
        """The few that tell how the app is."""
        status, counts = self._now.status, self._counts
        sent, published, consumed = (
            counts.of(one) for one in (Count.SENT, Count.PUBLISHED, Count.CONSUMED)
        )
        unsent = status.outbox if status is not None else None
        backlogs = [one.backlog for one in status.groups] if status is not None else []
        if unsent is not None:
            backlogs.append(unsent)
        if status is not None and status.after_commit is not None:
            backlogs.append(status.after_commit.backlog)
        dead = sum(one.dead for one in backlogs)
        behind = [one.behind for one in status.groups if one.behind is not None] if status else []
        late = unsent is not None and unsent.oldest_seconds > LATE_SECONDS
        return {
            "sent": Figure(rate(sent.rate) if self._observed else UNKNOWN, _flows(sent)),
            "published": Figure(rate(published.rate), _flows(published)),
            "consumed": Figure(rate(consumed.rate), _flows(consumed)),
            "unsent": Figure(
                number(unsent.ready + unsent.held + unsent.waiting if unsent else None),
                "late" if late else "",
            ),
            "oldest": Figure(
                age(unsent.oldest_seconds) if unsent and unsent.oldest_seconds else UNKNOWN,
                "late" if late else "",
            ),
            "behind": Figure(number(sum(behind) if behind else None)),
            "dead": Figure(
                number(dead) if status is not None else UNKNOWN, "failing" if dead else ""
            ),
            "processes": Figure(
                number(len(self._now.processes)) if status is not None else UNKNOWN,
                "failing" if status is not None and status.ownerless else "",
            ),
        }

    def rows(self) -> Iterator[Row]:
        """The lines of the table, in the order of the flow."""
        for node in self._graph.nodes.values():
            if node.kind == "handler" and not node.group:
                yield Row(node.id, "handler", node.name, self._name(node.message))
        for node in self._graph.of_kind("topic"):
            yield Row(node.id, "topic", node.name, node.note)
            for group in self._graph.targets(node.id):
                yield Row(f"{node.id} {group.id}", "group", group.name, f"reads {node.name}")
        for node in self._graph.nodes.values():
            if node.kind == "handler" and node.group:
                yield Row(node.id, "consumer", node.name, f"{self._name(node.message)}")

    # The arrows ------------------------------------------------------------------------------------------------------------

    def _edge(self, edge: Edge) -> Figure | None:
        source, target = self._graph.nodes[edge.source], self._graph.nodes[edge.target]
        match source.kind, target.kind:
            case "topic", "group":
                return self._reading(source.name, target.name)
            case _, "topic":
                return self._publishing(source, target)
            case _, "handler":
                return self._handler(target)
            case "handler", _:
                raised = self._counts.of(
                    Count.RAISED, handler=_handler_id(source), event=_message_id(target.id)
                )
                return _moving(raised)
            case _:
                return None

    def _publishing(self, message: Node, topic: Node) -> Figure | None:
        return _moving(self._counts.of(Count.PUBLISHED, topic=topic.name, type=message.type))

    def _handler(self, node: Node) -> Figure | None:
        handled, failed = self._handled(node)
        if failed.rate:
            return Figure(f"{rate(failed.rate)}/s fail", "failing")
        return _moving(handled)

    def _handled(self, node: Node) -> tuple[Amount, Amount]:
        labels = {"handler": _handler_id(node), "message": _message_id(node.message)}
        return self._counts.of(Count.HANDLED, **labels), self._counts.of(
            Count.HANDLER_FAILED, **labels
        )

    def _reading(self, topic: str, group: str) -> Figure | None:
        consumed = self._counts.of(Count.CONSUMED, group=group, topic=topic)
        behind, backlog = self._backlogs.get((group, topic), (None, Backlog()))
        parts = [f"{rate(consumed.rate)}/s"] if consumed.rate else []
        # Beside the arrow there is room for one more: the worst.
        amounts = {
            "dead": backlog.dead,
            "held": backlog.held,
            "waiting": backlog.waiting,
            "behind": behind or 0,
        }
        parts += [f"{number(amount)} {what}" for what, amount in amounts.items() if amount][:1]
        if not parts:
            return None
        late = backlog.held or backlog.waiting or backlog.oldest_seconds > LATE_SECONDS
        return Figure(
            ", ".join(parts), "failing" if backlog.dead else "late" if late else _flows(consumed)
        )

    # The table -------------------------------------------------------------------------------------------------------------

    def _cells(self) -> Iterator[tuple[str, Figure]]:
        unknown = Figure(UNKNOWN)
        for row in self.rows():
            done, wrong, waiting = self._line(row)
            yield f"{row.id} rate", Figure(rate(done.rate), _flows(done)) if done else unknown
            yield f"{row.id} total", Figure(number(done.total)) if done else unknown
            yield f"{row.id} wrong", wrong
            yield f"{row.id} waiting", waiting

    def _line(self, row: Row) -> tuple[Amount | None, Figure, Figure]:
        """What was done, what went wrong, and what waits; None if nobody counts what was done."""
        nothing = Figure("")
        if row.kind in ("handler", "consumer"):
            handled, failed = self._handled(self._graph.nodes[row.id])
            text = number(failed.total) if failed.total else "0"
            return (
                handled if self._observed else None,
                Figure(text, "failing" if failed.rate else ""),
                nothing,
            )
        if row.kind == "topic":
            rejected = self._counts.of(Count.PUBLISH_REJECTED, topic=row.name)
            return (
                self._counts.of(Count.PUBLISHED, topic=row.name),
                Figure(number(rejected.total), "failing" if rejected.rate else ""),
                nothing,
            )
        topic = self._graph.nodes[row.id.partition(" ")[0]].name
        behind, backlog = self._backlogs.get((row.name, topic), (None, Backlog()))
        held = backlog.waiting + backlog.held
        parts = [f"{number(behind)} behind"] if behind is not None else []
        parts += [f"{number(held)} stored"] if held else []
        return (
            self._counts.of(Count.CONSUMED, group=row.name, topic=topic),
            Figure(
                f"{number(backlog.dead)} dead" if backlog.dead else "0",
                "failing" if backlog.dead else "",
            ),
            Figure(", ".join(parts) or UNKNOWN, "late" if held else ""),
        )

    def _name(self, message: str) -> str:
        return self._graph.nodes[message].name if message in self._graph.nodes else ""


def _handler_id(node: Node) -> str:
    return node.id.removeprefix("h:").partition("@")[0]


def _message_id(node: str) -> str:
    return node.removeprefix("m:")


def _flows(amount: Amount) -> State:
    return "flows" if amount.rate else ""


def _moving(amount: Amount) -> Figure | None:
    return Figure(f"{rate(amount.rate)}/s", "flows") if amount.rate else None
