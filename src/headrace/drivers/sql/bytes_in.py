"""Bytes within bytes, in the words of each database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler


class PlaceIn(FunctionElement[int]):
    """Where bytes begin among other bytes; 0 if they are not there."""

    inherit_cache = True
    type = Integer()


@compiles(PlaceIn)
def _instr(element: PlaceIn, compiler: SQLCompiler, **given: Any) -> str:  # pyright: ignore[reportUnusedFunction]
    return f"instr({compiler.process(element.clauses, **given)})"


@compiles(PlaceIn, "postgresql")
def _position(element: PlaceIn, compiler: SQLCompiler, **given: Any) -> str:  # pyright: ignore[reportUnusedFunction]
    whole, part = (compiler.process(one, **given) for one in element.clauses)
    return f"position({part} in {whole})"
