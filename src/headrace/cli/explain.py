"""`headrace explain`: what became of a message, or of a key."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec.structs import replace
from rich.text import Text

from headrace.cli.ending import Code
from headrace.cli.hiding import REVEALS, Hide, Reveal, redaction_of
from headrace.cli.lives import explanation_data, explanation_view
from headrace.cli.loading import load
from headrace.cli.opening import Opened, with_opened
from headrace.cli.output import App, Json, Output, answering
from headrace.explaining import NOT_ASKED
from headrace.explaining import explain as explained
from headrace.redaction import seen_explanation


def explain(
    app: App,
    asked: Annotated[str, typer.Argument(metavar="ID|KEY", help="The id of a message, or a key.")],
    topic: Annotated[str | None, typer.Option(help="Look at this topic alone.")] = None,
    redact: Hide = None,
    reveal: Reveal = False,
    json: Json = False,
) -> None:
    """Tell what became of a message or of a key.

    What caused it, where it went, which group has handled it, who has it now, its errors, and what waits behind it. It reads
    storage and broker, in bounded parts, and changes nothing. Exit codes: 0 told, 1 nothing is known of it, 2 the command
    line is wrong, 3 the database could not be reached.
    """

    async def work(opened: Opened, out: Output) -> bool:
        redaction = redaction_of(opened.app, redact, reveal=reveal)
        whole = await explained(opened.app, asked, topic=topic)
        explanation = seen_explanation(redaction, whole)
        hides = explanation != whole
        if opened.broker_error is not None:
            others = [note for note in explanation.notes if not note.startswith(NOT_ASKED)]
            note = f"{NOT_ASKED}: {opened.broker_error}"
            explanation = replace(explanation, notes=(*others, note))
        if out.json:
            out.data(explanation_data(explanation))
        else:
            out.show(*explanation_view(explanation))
            if hides:
                out.show("", Text(f"{REVEALS}.", "dim"))
        return explanation.found

    with answering(app, json) as out:
        found = with_opened(load(app), lambda opened: work(opened, out), broker=True)
        raise typer.Exit(Code.DONE if found else Code.FAULT)
