"""`headrace dead`: look at dead letters, and mend them."""

from __future__ import annotations

from headrace.cli.dead.commands import dead

__all__ = ["dead"]
