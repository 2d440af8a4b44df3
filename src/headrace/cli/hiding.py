"""What a command hides of messages, and the options that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from headrace.app import Headrace
from headrace.cli.ending import Code, Fault
from headrace.redaction import Redact, Redaction

Hide = Annotated[
    list[str] | None,
    typer.Option(
        "--redact",
        metavar="TYPE:FIELD",
        help="Never show this field, such as payments.charged.v1:card.number, or '*:email'. May be given several times.",
    ),
]
"""Fields that are hidden besides those that the app marks as `Sensitive`."""

Reveal = Annotated[
    bool, typer.Option("--reveal", help="Show the values of fields that the app hides.")
]
"""For people who may see the database."""

REVEALS = "--reveal shows what is hidden"


def redaction_of(
    app: Headrace, hide: Sequence[str] | None = None, *, reveal: bool = False
) -> Redaction:
    """What is hidden of an app's messages.

    Args:
        app: its fields marked as `Sensitive` are.
        hide: `TYPE:FIELD` as on the command line: these are too. Default None: no more.
        reveal: nothing is.

    Raises:
        Fault: one of `hide` cannot be read, or both were asked for.
    """
    asked = fields_of(hide or ())
    if reveal and asked:
        raise Fault("give --reveal or --redact, not both.", Code.USAGE)
    return Redaction(asked, () if reveal else app.describe().messages)


def fields_of(given: Sequence[str]) -> Redact:
    """`TYPE:FIELD` as paths of fields by type.

    Raises:
        Fault: one of them is written otherwise.
    """
    found: dict[str, list[str]] = {}
    for one in given:
        kind, colon, field = one.rpartition(":")
        if not colon or not kind or not all(field.split(".")):
            raise Fault(
                f"--redact {one!r}: write the type, a colon and the field, such as payments.charged.v1:card.number.",
                Code.USAGE,
            )
        found.setdefault(kind, []).append(field)
    return found
