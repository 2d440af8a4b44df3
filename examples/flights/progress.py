"""Shows how far the replay is: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

LINE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Reading:
    """How far each stage is, in messages, and what waits in the outbox."""

    replayed: int
    published: int
    handled: int
    waiting: int
    oldest_seconds: float

    @property
    def lag(self) -> str:
        """The outbox's lag in words."""
        return f"outbox: {self.waiting:,} waiting, the oldest for {self.oldest_seconds:.1f} s"


class View(Protocol):
    """Shows readings while it is entered."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def show(self, reading: Reading) -> None:
        """Show the newest reading."""
        ...


def view_for(console: Console, commands: int, notifications: int, start: Reading) -> View:
    """Bars if the console is a terminal, else lines."""
    kind = Bars if console.is_terminal else Lines
    return kind(console, commands, notifications, start)


class _Rate(ProgressColumn):
    """Messages a second; of a stage that is done, its mean."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:>6,.0f}/s")


class Bars:
    """A bar for each stage, with its rate, and the outbox's lag."""

    def __init__(self, console: Console, commands: int, notifications: int, start: Reading) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TextColumn("{task.completed:>9,.0f} of {task.total:,.0f}"),
            _Rate(),
            TimeElapsedColumn(),
            console=console,
        )
        self._lag = Text(start.lag, style="dim")
        self._live = Live(Group(self._progress, self._lag), console=console)
        add = self._progress.add_task
        self._replayed = add("commands sent", total=commands, completed=start.replayed)
        self._published = add("events published", total=notifications, completed=start.published)
        self._handled = add("events handled", total=notifications, completed=start.handled)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, reading: Reading) -> None:
        self._progress.update(self._replayed, completed=reading.replayed)
        self._progress.update(self._published, completed=reading.published)
        self._progress.update(self._handled, completed=reading.handled)
        self._lag.plain = reading.lag


class Lines:
    """A line now and then, for logs and pipes."""

    def __init__(self, console: Console, commands: int, notifications: int, start: Reading) -> None:
        self._console = console
        self._commands = commands
        self._notifications = notifications
        self._last = start
        self._at = time.monotonic()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, reading: Reading) -> None:
        now = time.monotonic()
        # The first line comes as soon as something has moved.
        moved = reading.replayed > self._last.replayed or reading.handled > self._last.handled
        if not (now - self._at >= LINE_SECONDS if self._shown else moved):
            return
        seconds = max(now - self._at, 0.001)
        rates = (
            f" ({(reading.replayed - self._last.replayed) / seconds:,.0f} commands/s,"
            f" {(reading.handled - self._last.handled) / seconds:,.0f} events/s)"
        )
        line = (
            f"sent {reading.replayed:,} of {self._commands:,} commands; events published "
            f"{reading.published:,}, handled {reading.handled:,} of {self._notifications:,}"
            f"{rates}; {reading.lag}"
        )
        self._console.print(line, soft_wrap=True, highlight=False)
        self._last, self._at, self._shown = reading, now, True
