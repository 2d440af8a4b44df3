"""Reconciling: every figure of the read model against the same figure from the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TypeVar

from examples.flights.figures import AircraftFigures, DelayFigures, Figures

K = TypeVar("K")
F = TypeVar("F", DelayFigures, AircraftFigures)


def differences(read: Figures, expected: Figures) -> list[str]:
    """What differs, each as a sentence; empty if the two agree in everything."""
    return [
        *_compare(
            {f"{carrier} at {airport}": v for (carrier, airport), v in read.delays.items()},
            {f"{carrier} at {airport}": v for (carrier, airport), v in expected.delays.items()},
            DelayFigures(),
        ),
        *_compare(read.aircraft, expected.aircraft, AircraftFigures()),
    ]


def compared(expected: Figures) -> int:
    """How many figures `differences` compares."""
    delays, aircraft = len(fields(DelayFigures)), len(fields(AircraftFigures))
    return len(expected.delays) * delays + len(expected.aircraft) * aircraft


def _compare(read: Mapping[str, F], expected: Mapping[str, F], none: F) -> Iterator[str]:
    for name in sorted(read.keys() | expected.keys()):
        found, wanted = read.get(name, none), expected.get(name, none)
        if found == wanted:
            continue
        for part in fields(none):
            here, there = getattr(found, part.name), getattr(wanted, part.name)
            if here != there:
                yield f"{name}: {part.name} is {here} in the read model and {there} in the file"
