"""The subcommands of `headrace dead`."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import typer
from rich.console import RenderableType
from rich.text import Text

from headrace.cli.asking import Yes, confirm
from headrace.cli.dead import editing
from headrace.cli.dead.choosing import (
    Choice,
    Chosen,
    check_no_more,
    choose,
    full_name,
    seen,
    unworked,
)
from headrace.cli.dead.ordering import EitherOrder
from headrace.cli.dead.views import (
    chosen_data,
    chosen_view,
    errors_view,
    letter_data,
    letter_view,
    letters_view,
)
from headrace.cli.ending import Code, Fault
from headrace.cli.hiding import REVEALS, Hide, Reveal, redaction_of
from headrace.cli.loading import load
from headrace.cli.opening import Opened, with_opened
from headrace.cli.output import App, Json, Output, answering
from headrace.dead_letters import DeadLetter
from headrace.redaction import seen_errors, seen_letter

T = TypeVar("T")

dead = typer.Typer(
    name="dead",
    cls=EitherOrder,
    no_args_is_help=True,
    help="See dead letters, and mend them. `headrace dead APP` lists them; the app may stand before the subcommand.",
)
"""`headrace dead`."""

Positions = Annotated[
    list[int] | None, typer.Argument(metavar="POSITION", help="Which, as list and show tell.")
]
Position = Annotated[int, typer.Argument(metavar="POSITION", help="Which, as list tells.")]
Error = Annotated[
    str | None,
    typer.Option(help="Those with this type of error; its last part will do, such as ValueError."),
]
Group = Annotated[str | None, typer.Option(help="Those of this group.")]
Topic = Annotated[str | None, typer.Option(help="Those of this topic.")]
All = Annotated[bool, typer.Option("--all", help="All that there are.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
By = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who does it, for the audit record. Default: the login."),
]


@dead.command("list")
def list_(
    app: App,
    flat: Annotated[bool, typer.Option("--flat", help="One by one, not counted by error.")] = False,
    error: Error = None,
    group: Group = None,
    topic: Topic = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, with --flat.")] = 100,
    after: Annotated[
        int, typer.Option(metavar="POSITION", help="Those behind this one, with --flat.")
    ] = 0,
    redact: Hide = None,
    reveal: Reveal = False,
    json: Json = False,
) -> None:
    """List dead letters.

    Counted by error, or with --flat one by one, the oldest first.
    """

    async def work(opened: Opened, out: Output) -> None:
        letters = opened.app.dead_letters
        redaction = redaction_of(opened.app, redact, reveal=reveal)
        errors = await letters.errors(group, topic)
        name = full_name(error, errors) if error is not None and errors else error
        errors = [one for one in errors if name in (None, one.error)]
        if not flat:
            errors = await seen_errors(redaction, letters, errors)
            hint = Text(f"One by one: headrace dead list {app} --flat", "dim")
            parts: list[RenderableType] = [_NONE]
            if errors:
                parts = [errors_view(errors), "", hint]
            _show(out, {"errors": errors}, parts)
            return
        page = await letters.list(group=group, topic=topic, error=name, after=after, limit=limit)
        page = [seen_letter(redaction, one) for one in page]
        following = page[-1].position if len(page) == limit else None
        data = {"dead_letters": [letter_data(one) for one in page], "next_after": following}
        shown: list[RenderableType] = [letters_view(page) if page else _NONE]
        if following is not None:
            shown += ["", Text(f"There may be more: --after {following}", "dim")]
        _show(out, data, shown)

    _run(app, json, work)


@dead.command()
def show(
    app: App,
    position: Position,
    redact: Hide = None,
    reveal: Reveal = False,
    json: Json = False,
) -> None:
    """Show all of one dead letter.

    Its error and traceback, its body and envelope, and how many messages wait behind it.
    """

    async def work(opened: Opened, out: Output) -> None:
        redaction = redaction_of(opened.app, redact, reveal=reveal)
        letter = await _one(opened, position)
        behind = await opened.app.dead_letters.behind(position)
        shown = seen_letter(redaction, letter)
        body = f"{len(letter.data)} bytes"
        if redaction.of(letter.envelope.type):
            body += f"; {REVEALS}"
        _show(out, letter_data(shown, behind), letter_view(shown, behind, body))

    _run(app, json, work)


@dead.command()
def redrive(
    app: App,
    positions: Positions = None,
    error: Error = None,
    group: Group = None,
    topic: Topic = None,
    all: All = False,  # noqa: A002 - the option's name
    dry_run: DryRun = False,
    yes: Yes = False,
    by: By = None,
    redact: Hide = None,
    json: Json = False,
) -> None:
    """Let dead letters run again.

    With new attempts and in order, before what waits behind them. Whoever has their partition runs them.
    """
    choice = Choice(tuple(positions or ()), error, group, topic, all)

    async def change(opened: Opened, chosen: Chosen) -> int:
        letters, who = opened.app.dead_letters, _who(by)
        if choice.positions:
            return await letters.redrive(*choice.positions, by=who)
        return await letters.redrive_all(group=group, topic=topic, error=chosen.error, by=who)

    words = ("Redrive", "redriven")
    _change(app, json, choice, words, change, redact, dry_run=dry_run, yes=yes)


@dead.command()
def drop(
    app: App,
    positions: Positions = None,
    reason: Annotated[str, typer.Option(help="Why, for the log and the audit record.")] = "",
    error: Error = None,
    group: Group = None,
    topic: Topic = None,
    all: All = False,  # noqa: A002 - the option's name
    dry_run: DryRun = False,
    yes: Yes = False,
    by: By = None,
    redact: Hide = None,
    json: Json = False,
) -> None:
    """Delete dead letters for good.

    What waits behind them goes on as if they had never been. The reason stands in the log and in the audit record.
    """
    choice = Choice(tuple(positions or ()), error, group, topic, all)

    async def change(opened: Opened, chosen: Chosen) -> int:
        letters, who = opened.app.dead_letters, _who(by)
        if choice.positions:
            return await letters.drop(*choice.positions, reason=reason, by=who)
        return await letters.drop_all(
            group=group, topic=topic, error=chosen.error, reason=reason, by=who
        )

    with answering(app, json):
        if not reason.strip() and not dry_run:
            raise Fault(
                "say why these messages are given up: --reason TEXT. The log and the audit record keep it.",
                Code.USAGE,
            )
    words = ("Drop", "dropped for good")
    _change(app, json, choice, words, change, redact, dry_run=dry_run, yes=yes)


@dead.command()
def edit(
    app: App,
    position: Position,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The new body; - reads it from the standard input. Default: $EDITOR opens.",
        ),
    ] = None,
    stay: Annotated[
        bool, typer.Option("--no-redrive", help="Replace the body, and leave the letter dead.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    by: By = None,
    redact: Hide = None,
    reveal: Reveal = False,
    json: Json = False,
) -> None:
    """Replace the body of a dead letter.

    And redrive it. A body that the app could not read is refused. Id, key and envelope stay. A mark such as «hidden 1» stands
    for the value that was there; leave it, or write a new value in its place.
    """

    async def work(opened: Opened, out: Output) -> None:
        letters = opened.app.dead_letters
        redaction = redaction_of(opened.app, redact, reveal=reveal)
        letter = await _one(opened, position)
        hidden = redaction.of(letter.envelope.type)
        body = editing.new_body(letters, letter, data, hidden)
        done: dict[str, object] = {"position": position, "dry_run": dry_run, "edited": False}
        if body == letter.data:
            _show(out, done, ["The body is the same as before: nothing was changed."])
            return
        change = editing.difference(letter.data, body, hidden)
        if dry_run:
            _show(out, done, [change, "Nothing was changed: this was a dry run."])
            return
        if not json and not yes:
            out.show(change)
        then = "" if stay else " and redrive it"
        confirm(f"Replace the body of dead letter {position} of {opened.app.name!r}{then}", yes=yes)
        who = _who(by)
        if not await letters.edit(position, body, by=who):
            raise _gone(position)
        count = 0 if stay else await letters.redrive(position, by=who)
        idle = [] if stay else await unworked(opened.storage, [letter.queue])
        done |= {"edited": True, "redriven": count, "unworked": idle}
        what = "edited" if stay else "edited and redriven" if count else "edited, but not redriven"
        _show(out, done, [f"Dead letter {position} is {what}.", *idle])

    _run(app, json, work)


_NONE = "There are no dead letters."


def _run(app: str, json: bool, work: Callable[[Opened, Output], Awaitable[None]]) -> None:
    with answering(app, json) as out:
        # What is done is told by the command itself; without a handler Python would write each record too.
        logging.getLogger("headrace").addHandler(logging.NullHandler())
        with_opened(load(app), lambda opened: work(opened, out))


def _change(
    app: str,
    json: bool,
    choice: Choice,
    words: tuple[str, str],
    change: Callable[[Opened, Chosen], Awaitable[int]],
    redact: Sequence[str] | None,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """What redrive and drop have in common: choose, show, ask, do, tell."""

    async def work(opened: Opened, out: Output) -> None:
        choice.check()
        redaction = redaction_of(opened.app, redact)
        chosen = await choose(opened.app.dead_letters, choice)
        chosen = await seen(redaction, opened.app.dead_letters, chosen)
        told = {"dry_run": dry_run, "count": chosen.count, **chosen_data(chosen)}
        if not chosen.count:
            _show(out, told, chosen_view(chosen) or [_NONE])
            raise typer.Exit(Code.FAULT)
        name = f"{chosen.count} dead letter{'' if chosen.count == 1 else 's'}"
        if dry_run:
            shown = f"{name} would be {words[1]}. Nothing was changed: this was a dry run."
            _show(out, told, [*chosen_view(chosen), "", shown])
            return
        if not yes and not json:
            out.show(*chosen_view(chosen), "")
        confirm(f"{words[0]} {name} of {opened.app.name!r}", yes=yes)
        if not yes:
            await check_no_more(opened.app.dead_letters, choice, chosen)
        count = await change(opened, chosen)
        idle = await unworked(opened.storage, chosen.queues)
        told |= {"count": count, "unworked": idle}
        parts: list[RenderableType] = [
            f"{count} dead letter{' is' if count == 1 else 's are'} {words[1]}."
        ]
        if yes and chosen.missing:
            parts += chosen_view(Chosen(0, missing=chosen.missing))
        _show(out, told, [*parts, *idle])

    _run(app, json, work)


def _show(out: Output, data: object, parts: Sequence[RenderableType]) -> None:
    if out.json:
        out.data(data)
    else:
        out.show(*parts)


async def _one(opened: Opened, position: int) -> DeadLetter:
    letter = await opened.app.dead_letters.get(position)
    if letter is None:
        raise _gone(position)
    return letter


def _gone(position: int) -> Fault:
    return Fault(
        f"there is no dead letter at position {position}: it was redriven or dropped, or never was one. `headrace dead list` "
        "shows those that there are.",
        Code.FAULT,
    )


def _who(by: str | None) -> str:
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no login, as in some containers
        return ""
