"""Numbers, times and names as people read them: the filters of the templates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

UNKNOWN: Final = "\u2013"
"""Stands where a figure is not known."""

_STEPS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def age(seconds: float) -> str:
    """How long: `340 ms`, `12 s`, `5 min`, `3 h 20 min`, `4 d`."""
    if seconds <= 0:
        return "0 s"
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 60:
        return f"{int(seconds)} s"
    for size, unit in _STEPS:
        if seconds >= size:
            whole = int(seconds // size)
            rest = int(seconds % size // 60)
            return f"{whole} h {rest} min" if unit == "h" and rest else f"{whole} {unit}"
    return f"{int(seconds)} s"


def ago(at: float | None) -> str:
    """How long ago a time was, in UTC seconds since the epoch."""
    return "" if at is None else f"{age(max(0.0, time.time() - at))} ago"


def stamp(at: float | None) -> str:
    """A time in UTC seconds since the epoch, to the second."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at: float | None) -> str:
    """A time for machines."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def moment(text: str) -> str:
    """A time as an envelope has it, to the second; as it stands if it cannot be read."""
    try:
        return stamp(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return text


def number(value: float | None) -> str:
    """A count with thousands apart, by thin spaces; a dash if it is not known."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", "\u202f")


def rate(value: float | None) -> str:
    """How many in a second: `0`, `0.4`, `12`, `1 250`."""
    if value is None:
        return UNKNOWN
    if value <= 0:
        return "0"
    return f"{value:.2f}" if value < 0.1 else f"{value:.1f}" if value < 10 else number(value)


def queue(name: str) -> str:
    """The name of a queue in words."""
    kind, _, rest = name.partition(":")
    if kind == "outbox":
        return f"outbox of {rest}"
    if kind == "after":
        return f"after-commit handlers of {rest}"
    group, _, topic = rest.partition("/")
    return f"group {group} on {topic}" if kind == "group" else name


def short(name: str) -> str:
    """The last part of a dotted name: `ValueError` of `shop.errors.ValueError`."""
    return name.rpartition(".")[2] or name


def process(name: str) -> str:
    """The name of a process without what only tells it from others of the same number."""
    return name if len(name) <= 40 else f"{name[:37]}…"


def some(count: int, one: str, many: str | None = None) -> str:
    """A count with its word: `1 dead letter`, `12 dead letters`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def query(values: Mapping[str, object]) -> str:
    """The query of a link; what is None is left out."""
    return urlencode({name: value for name, value in values.items() if value is not None})


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "age": age,
    "ago": ago,
    "stamp": stamp,
    "iso": iso,
    "moment": moment,
    "number": number,
    "rate": rate,
    "queue": queue,
    "short": short,
    "process": process,
    "some": some,
    "query": query,
}
"""By name in templates."""
