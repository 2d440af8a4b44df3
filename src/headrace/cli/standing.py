"""How an app stands, seen from outside: its processes, what waits, who works it, how fast it flows, what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from headrace.assembly import AppStatus
from headrace.assembly.ownership import Ownership
from headrace.assembly.pulse import ProcessPulse, Rates, rates, read_pulses
from headrace.cli.hiding import redaction_of
from headrace.cli.opening import Opened
from headrace.limits import Limits
from headrace.redaction import seen_errors
from headrace.storage import Backlog, DeadErrors, after_queue, group_queue, outbox_queue
from headrace.telemetry import Count
from headrace.telemetry.counts import read


class Line(Struct, frozen=True, kw_only=True):
    """A queue: the outbox, a group's work on a topic, or after-commit deliveries.

    Args:
        queue: its name in storage.
        name: for people.
        topic: of a group's queue, else None.
        backlog: what is stored in it.
        behind: of a group: messages of the topic that it has still to read; None if the broker could not tell, or of others.
        per_second: messages that were published from it, or handled; None if that is not known yet.
        owners: how many partitions each process works.
        ownerless: partitions that nobody works.
    """

    queue: str
    name: str
    topic: str | None = None
    backlog: Backlog
    behind: int | None = None
    per_second: float | None = None
    owners: Mapping[str, int]
    ownerless: tuple[int, ...] = ()

    @property
    def waits(self) -> bool:
        """True if there is something to do in it. What is held waits for a person."""
        return bool(self.backlog.ready or self.backlog.waiting or self.behind)


class Standing(Struct, frozen=True, kw_only=True):
    """What `headrace status` tells.

    Args:
        app: the app's name.
        processes: those that are alive, by name.
        lines: every queue of the app.
        rates: all counts, by how much they grow in a second over all processes; with labels, as in `Telemetry.snapshot`.
        rates_since_start: True if these are means since each process started, False if between the last two looks.
        paused: what processes have paused and why.
        dead: dead letters, counted by error.
        problems: what somebody should look at, each a sentence. Dead letters are none: the flow goes on around them.
        broker_error: why the broker could not be asked how far groups are, or None.
    """

    app: str
    processes: tuple[ProcessPulse, ...]
    lines: tuple[Line, ...]
    rates: Mapping[str, float]
    rates_since_start: bool
    paused: tuple[str, ...]
    dead: tuple[DeadErrors, ...]
    problems: tuple[str, ...]
    broker_error: str | None


class Looking:
    """Looks at an app again and again. The first look has means since the start, later ones the rates between two.

    Args:
        opened: the app.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._rates = Rates()
        self._looked = False

    async def look(self) -> Standing:
        """How it stands now.

        Raises:
            StorageUnavailable: the database cannot be reached.
        """
        app, storage = self._opened.app, self._opened.storage
        processes = read_pulses(await storage.pulses(app.name))
        status = await app.status()
        dead = await seen_errors(
            redaction_of(app), app.dead_letters, await app.dead_letters.errors()
        )
        grown = self._rates.look(processes)
        since_start = not self._looked or not grown
        if since_start:
            grown = _since_start(processes)
        self._looked = True
        lines = tuple(_lines(app.name, status, grown))
        error = self._opened.broker_error or status.broker_error
        paused = tuple(dict.fromkeys(one for pulse in processes for one in pulse.paused))
        return Standing(
            app=app.name,
            processes=processes,
            lines=lines,
            rates=grown,
            rates_since_start=since_start,
            paused=paused,
            dead=tuple(dead),
            problems=tuple(_problems(lines, processes, paused, error, self._opened.limits)),
            broker_error=error,
        )


def short(process: str) -> str:
    """A process's name for people: its host and number, without what makes it unique for ever."""
    return process.rpartition(":")[0] or process


def _since_start(processes: Iterable[ProcessPulse]) -> dict[str, float]:
    total: dict[str, float] = {}
    for pulse in processes:
        for name, rate in rates({}, pulse.counts, pulse.at - pulse.started_at).items():
            total[name] = total.get(name, 0.0) + rate
    return total


def _lines(app: str, status: AppStatus, grown: Mapping[str, float]) -> Iterable[Line]:
    ownership = {one.queue: one for one in status.ownership}
    counted = [(*read(text), rate) for text, rate in grown.items()]

    def rate(what: Count, **labels: str) -> float | None:
        wanted = labels.items()
        found = [r for name, given, r in counted if name == what and wanted <= dict(given).items()]
        return sum(found) if found or counted else None

    queue = outbox_queue(app)
    # Without a broker there is nothing to publish.
    if status.outbox is not None and queue in ownership:
        published = grown.get(Count.PUBLISHED, 0.0) if counted else None
        yield _line(queue, "outbox", status.outbox, ownership, per_second=published)
    for one in status.groups:
        queue = group_queue(one.group, one.topic)
        yield _line(
            queue,
            f"group {one.group}",
            one.backlog,
            ownership,
            topic=one.topic,
            behind=one.behind,
            per_second=rate(Count.CONSUMED, group=one.group, topic=one.topic),
        )
    if status.after_commit is not None:
        queue = after_queue(app)
        yield _line(queue, "after commit", status.after_commit.backlog, ownership)


def _line(
    queue: str,
    name: str,
    backlog: Backlog,
    ownership: Mapping[str, Ownership],
    *,
    topic: str | None = None,
    behind: int | None = None,
    per_second: float | None = None,
) -> Line:
    owned = ownership.get(queue)
    owners: dict[str, int] = {}
    for owner in owned.owners.values() if owned is not None else ():
        if owner is not None:
            owners[owner] = owners.get(owner, 0) + 1
    return Line(
        queue=queue,
        name=name,
        topic=topic,
        backlog=backlog,
        behind=behind,
        per_second=per_second,
        owners=owners,
        ownerless=owned.ownerless if owned is not None else (),
    )


def _problems(
    lines: Sequence[Line],
    processes: Sequence[ProcessPulse],
    paused: Sequence[str],
    broker_error: str | None,
    limits: Limits,
) -> Iterable[str]:
    for line in lines:
        what = line.name if line.topic is None else f"{line.name} on topic {line.topic}"
        if line.waits and line.ownerless:
            role = "relay" if line.name == "outbox" else "consume"
            of = "any" if not line.owners else f"{len(line.ownerless)}"
            of += " partition" + ("s" if len(line.ownerless) != 1 and line.owners else "")
            does = any(role in one.roles for one in processes)
            todo = "Look into its log." if does else "Start a worker."
            there = "a process has" if does else "no process that is alive has"
            yield f"{what}: messages wait and nobody works {of}; {there} the role {role}. {todo}"
        if line.name == "outbox" and line.backlog.oldest_seconds > limits.unsent_seconds:
            age, most = line.backlog.oldest_seconds, limits.unsent_seconds
            yield f"outbox: the oldest event has waited for {age:.0f} s; Limits(unsent_seconds=...) allows {most:g}."
    yield from paused
    if broker_error is not None:
        yield broker_error
