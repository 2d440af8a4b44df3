"""The page of one message or key: what caused it, where it went, who has it, what waits behind it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.dashboard.security import asked_of
from headrace.dashboard.site import Site
from headrace.explaining import Explanation, MessageLife, Standing, explain
from headrace.redaction import Shown


async def page(site: Site, request: Request) -> Response:
    """What is known of the id or key that was asked for; without one, how to ask."""
    query = asked_of(request)
    asked, topic = query.one("of").strip(), query.any("topic") or None
    found: Explanation | None = None
    if asked and site.app.storage is not None:
        found = await site.reader.read(lambda: explain(site.app, asked, topic=topic))
    return site.page(
        request,
        "messages.html",
        sought=asked,
        topic=topic,
        found=found,
        stored=site.app.storage is not None,
        view=View(site),
    )


class View:
    """What the template asks of a message: only what people may see.

    Args:
        site: its redaction is used.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def body(self, life: MessageLife) -> Shown | None:
        """The body, if it is stored anywhere."""
        if life.data is None:
            return None
        kind = life.envelope.type if life.envelope is not None else ""
        return self._site.hidden(kind).show(life.data)

    def key(self, life: MessageLife) -> str | None:
        """The key, or a mark if it is hidden."""
        if life.key is None or life.envelope is None:
            return life.key
        return self._site.redaction.key(life.envelope.type, life.key)

    def hides_key(self, life: MessageLife) -> bool:
        """True if there may be no link to the key."""
        return life.envelope is not None and self._site.hidden(life.envelope.type).hides_key

    def error(self, standing: Standing, life: MessageLife | None = None) -> str:
        """The text of the last error."""
        if standing.failure is None:
            return ""
        data = life.data if life is not None else None
        return self._site.redaction.error(standing.type, standing.failure.message, data)
