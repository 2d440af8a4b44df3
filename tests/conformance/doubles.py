"""Deliberately broken drivers: each breaks one promise and names the clauses that must find it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

C = TypeVar("C", bound=type)


class Doubles:
    """The broken drivers of one kit, with the clauses that each must fail."""

    def __init__(self) -> None:
        self.cases: list[tuple[type, str]] = []

    def fails(self, *clauses: str) -> Callable[[C], C]:
        """Register a double. Clauses are named without `test_`."""

        def register(double: C) -> C:
            self.cases += [(double, f"test_{clause}") for clause in clauses]
            return double

        return register

    @property
    def caught(self) -> set[str]:
        """The clauses that find at least one double."""
        return {clause for _, clause in self.cases}
