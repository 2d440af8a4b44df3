"""The pages of dead letters: grouped by error, the list of a group, and one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from headrace.dashboard.security import asked_of
from headrace.dashboard.site import Site
from headrace.dead_letters import DeadLetter
from headrace.envelope import attributes
from headrace.redaction import Shown, newest_of, sample_of, seen_letter
from headrace.storage import DeadErrors

PAGE: Final = 50
"""Dead letters on a page."""

HIGHEST: Final = 2**63 - 1
"""No position is above: databases refuse to compare with more."""


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters that failed alike, and the newest of them if it was looked at."""

    errors: DeadErrors
    newest: DeadLetter | None
    sample: str


@dataclass(frozen=True, slots=True)
class Row:
    """A dead letter as people may see it.

    Args:
        letter: with all that it has; only what follows, and what holds no payload, is for the page.
        key: its key; a mark if it is hidden; None if it has none.
        error: the text of its error.
        traceback: of its error.
        links_key: there may be a link to the page of its key.
    """

    letter: DeadLetter
    key: str | None
    error: str
    traceback: str
    links_key: bool


def row_of(site: Site, letter: DeadLetter) -> Row:
    """See `Row`."""
    seen = seen_letter(site.redaction, letter)
    return Row(
        letter=letter,
        key=seen.key,
        error=seen.failure.message if seen.failure else "",
        traceback=seen.failure.traceback if seen.failure else "",
        links_key=letter.key is not None and not site.hidden(letter.envelope.type).hides_key,
    )


async def groups(site: Site, request: Request) -> Response:
    """All dead letters by queue, topic and error."""
    letters = site.app.dead_letters

    async def read() -> tuple[Sequence[DeadErrors], Mapping[int, DeadLetter | None]]:
        errors = await letters.errors()
        return errors, await newest_of(letters, errors)

    errors, newest = await site.reader.read(read)
    found = [_group(site, one, newest.get(one.last_position)) for one in errors]
    return site.page(
        request,
        "dead_groups.html",
        groups=found,
        count=sum(one.count for one in errors),
        offers=await site.offers(request),
        done=_done(request),
    )


def _group(site: Site, errors: DeadErrors, newest: DeadLetter | None) -> Group:
    return Group(errors, newest, sample_of(site.redaction, errors, newest))


async def listed(site: Site, request: Request) -> Response:
    """A page of dead letters, of one group or of all, from the oldest on."""
    query = asked_of(request)
    queue, topic, error = query.any("queue"), query.any("topic"), query.any("error")
    after = _whole(query.one("after"))
    found = await site.reader.read(
        lambda: site.app.dead_letters.list(
            queue=queue, topic=topic, error=error, after=after, limit=PAGE + 1
        )
    )
    shown = found[:PAGE]
    return site.page(
        request,
        "dead_list.html",
        rows=[row_of(site, one) for one in shown],
        queue=queue,
        topic=topic,
        error=error,
        after=after,
        following=shown[-1].position if len(found) > PAGE else None,
        offers=await site.offers(request, [one.position for one in shown]),
        done=_done(request),
    )


async def one(site: Site, request: Request) -> Response:
    """One dead letter with its body, its error and what waits behind it."""
    position = int(request.path_params["position"])
    if position > HIGHEST:
        return gone(site, request, position)

    async def read() -> tuple[DeadLetter | None, int]:
        found = await site.app.dead_letters.get(position)
        return found, await site.app.dead_letters.behind(position) if found is not None else 0

    letter, behind = await site.reader.read(read)
    if letter is None:
        return gone(site, request, position)
    shown = site.hidden(letter.envelope.type).show(letter.data)
    return site.page(
        request,
        "dead_letter.html",
        row=row_of(site, letter),
        letter=letter,
        attributes=attributes_of(site, letter),
        shown=shown,
        behind=behind,
        offers=await site.offers(request, [position]),
        done=_done(request),
    )


def gone(site: Site, request: Request, position: int) -> Response:
    """Said of a position that has no dead letter any more."""
    return site.page(
        request,
        "error.html",
        code=404,
        what=f"{position} is no dead letter",
        text="It was redriven or dropped meanwhile, or never was one. The audit page tells who did what.",
        again=False,
    )


def attributes_of(site: Site, letter: DeadLetter) -> list[tuple[str, str]]:
    """The attributes of the envelope that are there, without a key that is hidden."""
    found = attributes(seen_letter(site.redaction, letter).envelope)
    del found["specversion"]
    return [(name, value) for name, value in found.items() if value]


def shown_of(site: Site, letter: DeadLetter) -> Shown:
    """The body as people may see it."""
    return site.hidden(letter.envelope.type).show(letter.data)


def _done(request: Request) -> tuple[str, int] | None:
    """What was done just now, which the address tells; only words that are known are shown."""
    what, count = request.query_params.get("done", ""), _whole(request.query_params.get("n", ""))
    return (what, count) if what in {"redriven", "dropped", "edited"} else None


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
