"""What changes dead letters: the question before it, the form of an edit, and the actions themselves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from headrace.dashboard.actions import Action, Doing, who_may
from headrace.dashboard.letters import HIGHEST, gone, row_of, shown_of
from headrace.dashboard.security import Form, Refused, asked_of, form_of
from headrace.dashboard.site import Site, go
from headrace.dead_letters import DeadLetter
from headrace.errors import DecodeError, MessageTooLarge
from headrace.redaction import Unusable

SECONDS: Final = 60.0
"""How long an action on many may take within one request; what is left is there to be asked for again."""

MOST_BYTES: Final = 16 * 1024 * 1024
SAMPLE: Final = 10


@dataclass(frozen=True, slots=True)
class Chosen:
    """The dead letters that a form is about: some by position, or all with one error."""

    positions: tuple[int, ...] = ()
    queue: str | None = None
    topic: str | None = None
    error: str | None = None

    def action(self, doing: Doing, *, reason: str = "", asking: bool = False) -> Action:
        """What somebody wants to do with them."""
        return Action(
            doing=doing,
            positions=self.positions,
            queue=self.queue,
            topic=self.topic,
            error=self.error,
            reason=reason,
            asking=asking,
        )


def chosen_of(values: Form) -> Chosen:
    """What a query or a form has chosen.

    Raises:
        Refused: it says nothing, or no numbers.
    """
    positions = values.all("position")
    if positions:
        if not all(one.isascii() and one.isdigit() and len(one) < 19 for one in positions):
            raise Refused("The positions are no numbers. Nothing was changed.", code=400)
        return Chosen(positions=tuple(sorted({int(one) for one in positions})))
    queue, topic = values.one("queue"), values.one("topic")
    if not queue or not topic:
        raise Refused(
            "Nothing was chosen, so nothing was changed. Go back and mark some dead letters.",
            code=400,
        )
    return Chosen(queue=queue, topic=topic, error=values.one("error"))


async def ask(site: Site, request: Request) -> Response:
    """Show what an action would do, before anybody does it."""
    query = asked_of(request)
    return await _question(site, request, _doing(query.one("do")), chosen_of(query))


async def redrive(site: Site, request: Request) -> Response:
    """Redrive what the form says."""
    form = await _form(site, request)
    chosen = chosen_of(form)
    by = await _who(site, request, chosen.action(Doing.REDRIVE))
    letters = site.app.dead_letters
    if chosen.positions:
        count = await _act(lambda: letters.redrive(*chosen.positions, by=by))
    else:
        if (again := await _grown(site, request, form, chosen, Doing.REDRIVE)) is not None:
            return again
        count = await _act(
            lambda: letters.redrive_all(
                queue=chosen.queue, topic=chosen.topic, error=chosen.error, by=by
            )
        )
    return go(request, "dead?" + urlencode({"done": "redriven", "n": count}))


async def drop(site: Site, request: Request) -> Response:
    """Drop what the form says, for the reason that it gives."""
    form = await _form(site, request)
    chosen, reason = chosen_of(form), form.one("reason").strip()
    if not reason:
        return await _question(
            site, request, Doing.DROP, chosen, problem="Say why: the audit record keeps it."
        )
    by = await _who(site, request, chosen.action(Doing.DROP, reason=reason))
    letters = site.app.dead_letters
    if chosen.positions:
        count = await _act(lambda: letters.drop(*chosen.positions, reason=reason, by=by))
    else:
        if (again := await _grown(site, request, form, chosen, Doing.DROP)) is not None:
            return again
        count = await _act(
            lambda: letters.drop_all(
                queue=chosen.queue,
                topic=chosen.topic,
                error=chosen.error,
                reason=reason,
                by=by,
            )
        )
    return go(request, "dead?" + urlencode({"done": "dropped", "n": count}))


async def editor(site: Site, request: Request) -> Response:
    """The form of an edit."""
    letter = await _letter(site, request)
    if letter is None:
        return gone(site, request, int(request.path_params["position"]))
    shown = shown_of(site, letter)
    if not shown.editable:
        raise Refused(f"{shown.text} It cannot be edited here.", code=409)
    return await _edit_form(site, request, letter, shown.text)


async def edit(site: Site, request: Request) -> Response:
    """Replace a body by what the form has, and redrive the dead letter if asked."""
    form = await _form(site, request)
    letter = await _letter(site, request)
    if letter is None:
        return gone(site, request, int(request.path_params["position"]))
    chosen = Chosen(positions=(letter.position,))
    by = await _who(site, request, chosen.action(Doing.EDIT))
    redrives = form.one("then") == "redrive"
    if redrives:
        await _who(site, request, chosen.action(Doing.REDRIVE))
    text = form.one("body").replace("\r\n", "\n")
    shown = shown_of(site, letter)
    if not shown.editable:
        raise Refused(f"{shown.text} It cannot be edited here. Nothing was changed.", code=409)
    if form.one("seen") != _print_of(shown.text):
        problem = "Somebody else has edited it meanwhile. Nothing was changed. Your text is below; open the page anew for theirs."
        return await _edit_form(site, request, letter, text, problem=problem, seen=form.one("seen"))
    hidden = site.hidden(letter.envelope.type)
    try:
        data = hidden.restore(text, letter.data)
        changed = await _act(lambda: site.app.dead_letters.edit(letter.position, data, by=by))
    except Unusable as error:
        return await _edit_form(site, request, letter, text, problem=str(error))
    except (DecodeError, MessageTooLarge) as error:
        return await _edit_form(
            site, request, letter, text, problem=hidden.scrub(str(error), letter.data)
        )
    if not changed:
        return gone(site, request, letter.position)
    if redrives:
        await _act(lambda: site.app.dead_letters.redrive(letter.position, by=by))
        return go(request, "dead?" + urlencode({"done": "redriven", "n": 1}))
    return go(request, f"dead/{letter.position}?" + urlencode({"done": "edited", "n": 1}))


# What they share ----------------------------------------------------------------------------------------------------------


async def _question(
    site: Site,
    request: Request,
    doing: Doing,
    chosen: Chosen,
    *,
    problem: str = "",
) -> Response:
    await _who(site, request, chosen.action(doing, asking=True))
    count, sample = await site.reader.read(lambda: _counted(site, chosen))
    return site.page(
        request,
        "ask.html",
        code=422 if problem else 200,
        doing=doing.value,
        chosen=chosen,
        count=count,
        rows=[row_of(site, one) for one in sample],
        problem=problem,
    )


async def _counted(site: Site, chosen: Chosen) -> tuple[int, list[DeadLetter]]:
    """How many there are, and the first of them."""
    letters = site.app.dead_letters
    if chosen.positions:
        found = [await letters.get(one) for one in chosen.positions]
        there = [one for one in found if one is not None]
        return len(there), there[:SAMPLE]
    count = await _count(site, chosen)
    sample = await letters.list(
        queue=chosen.queue, topic=chosen.topic, error=chosen.error, limit=SAMPLE
    )
    return count, list(sample)


async def _count(site: Site, chosen: Chosen) -> int:
    errors = await site.app.dead_letters.errors(queue=chosen.queue)
    return sum(
        one.count for one in errors if one.topic == chosen.topic and one.error == chosen.error
    )


async def _grown(
    site: Site, request: Request, form: Form, chosen: Chosen, doing: Doing
) -> Response | None:
    """The question again, if there are more of them than the person has seen when they said yes."""
    seen = form.one("count")
    now = await site.reader.read(lambda: _count(site, chosen))
    if seen.isdigit() and now <= int(seen):
        return None
    return await _question(
        site,
        request,
        doing,
        chosen,
        problem=f"There are {now} of them now, more than you were shown. Nothing was changed.",
    )


async def _edit_form(
    site: Site,
    request: Request,
    letter: DeadLetter,
    text: str,
    *,
    problem: str = "",
    seen: str | None = None,
) -> Response:
    shown = shown_of(site, letter)
    offers = await site.offers(request, [letter.position])
    if Doing.EDIT not in offers:
        raise Refused("You may not edit dead letters here.")
    return site.page(
        request,
        "dead_edit.html",
        code=422 if problem else 200,
        letter=letter,
        row=row_of(site, letter),
        text=text,
        hidden=shown.hidden,
        seen=seen if seen is not None else _print_of(shown.text),
        problem=problem,
        offers=offers,
    )


async def _letter(site: Site, request: Request) -> DeadLetter | None:
    position = min(int(request.path_params["position"]), HIGHEST)
    return await site.reader.read(lambda: site.app.dead_letters.get(position))


async def _form(site: Site, request: Request) -> Form:
    return await form_of(request, trusted=site.trusted_origins, most_bytes=MOST_BYTES)


async def _who(site: Site, request: Request, action: Action) -> str:
    by = await who_may(site.authorize, request, action)
    if by is None:
        raise Refused(f"You may not {action.doing} these dead letters. Nothing was changed.")
    return by


async def _act(work: Callable[[], Awaitable[int]]) -> int:
    """Do it, shielded from a browser that leaves: half of an action would be hard to explain."""
    task = asyncio.ensure_future(_bounded(work))
    return await asyncio.shield(task)


async def _bounded(work: Callable[[], Awaitable[int]]) -> int:
    try:
        async with asyncio.timeout(SECONDS):
            return await work()
    except TimeoutError as error:
        raise Refused(
            f"It takes longer than {SECONDS:g} seconds. What was done so far stays done, and has its audit records; the page of "
            "dead letters shows what is left. Ask for it again.",
            code=503,
        ) from error


def _doing(text: str) -> Doing:
    try:
        return Doing(text)
    except ValueError:
        raise Refused("There is no such action. Nothing was changed.", code=400) from None


def _print_of(text: str) -> str:
    """Of what was shown, never of what is hidden: a short value could be guessed from it."""
    return hashlib.sha256(text.encode()).hexdigest()
