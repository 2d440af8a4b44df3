"""`headrace dead show APP 17` and `headrace dead APP show 17` are the same; `headrace dead APP` lists."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Context


def in_order(arguments: list[str], commands: Container[str], default: str) -> list[str]:
    """The arguments with the subcommand first."""
    if not arguments or arguments[0] in commands or ":" not in arguments[0]:
        return arguments
    app, *rest = arguments
    if rest and rest[0] in commands:
        return [rest[0], app, *rest[1:]]
    return [default, app, *rest]


class EitherOrder(TyperGroup):
    """A group whose subcommands may stand behind the app."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """See `in_order`."""
        return super().parse_args(ctx, in_order(args, self.commands, "list"))
