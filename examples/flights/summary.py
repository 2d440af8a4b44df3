"""The tables at the end: what the read model says, for people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from examples.flights.data import read_airlines, read_airports
from examples.flights.figures import DelayFigures, Figures

TOP = 10


def show_summary(console: Console, figures: Figures) -> None:
    """Delays per carrier and airport, and where the aircraft are."""
    console.print(_carriers(figures))
    console.print(_airports(figures))
    console.print(_aircraft(figures), soft_wrap=True)


def _carriers(figures: Figures) -> Table:
    table = _table("Carriers by departures from New York (late: mean, in minutes)")
    for title in ("carrier", "departed", "cancelled", "late", "over 2 h", "lands late"):
        _add_column(table, title)
    names = read_airlines()
    for carrier, f in _busiest(figures, lambda key: key[0], lambda f: f.departures):
        table.add_row(
            _short(names.get(carrier, carrier)),
            f"{f.departures:,}",
            f"{f.cancellations:,}",
            _mean(f.departure_minutes, f.departures),
            f"{f.long_delays:,}",
            _mean(f.landing_minutes, f.landings_timed),
        )
    return table


def _airports(figures: Figures) -> Table:
    table = _table(f"The {TOP} busiest airports (late: mean, in minutes)")
    for title in ("airport", "departed", "landed", "lands late", "aircraft"):
        _add_column(table, title)
    names = read_airports()
    there = Counter(a.place for a in figures.aircraft.values())
    busiest = _busiest(figures, lambda key: key[1], lambda f: f.departures + f.landings)
    for (airport, f), _ in zip(busiest, range(TOP), strict=False):
        table.add_row(
            _short(f"{airport} {names[airport].name}"),
            f"{f.departures:,}" if f.departures else "",
            f"{f.landings:,}" if f.landings else "",
            _mean(f.landing_minutes, f.landings_timed),
            f"{there[airport]:,}",
        )
    return table


def _aircraft(figures: Figures) -> str:
    places = [aircraft.place for aircraft in figures.aircraft.values()]
    on_the_way = sum(place is not None and ">" in place for place in places)
    unknown = places.count(None)
    return (
        f"{len(places):,} aircraft: {len(places) - on_the_way - unknown:,} on the ground, {on_the_way:,} last seen "
        f"leaving (no landing recorded since), {unknown:,} never seen (cancelled flights only)"
    )


def _busiest(
    figures: Figures, group: Callable[[tuple[str, str]], str], size: Callable[[DelayFigures], int]
) -> Iterator[tuple[str, DelayFigures]]:
    sums: Mapping[str, DelayFigures] = defaultdict(DelayFigures)
    for key, part in figures.delays.items():
        sums[group(key)].add(part)
    yield from sorted(sums.items(), key=lambda item: size(item[1]), reverse=True)


def _mean(minutes: int, count: int) -> str:
    return f"{minutes / count:.1f}" if count else ""


def _short(name: str) -> str:
    # So that the tables fit a terminal of 80 columns.
    return name if len(name) <= 22 else name[:21] + "\N{HORIZONTAL ELLIPSIS}"


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )


def _add_column(table: Table, title: str) -> None:
    table.add_column(title, justify="right" if table.columns else "left", no_wrap=True)
