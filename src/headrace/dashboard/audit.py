"""The page of audit records: who did what, when, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from headrace.dashboard.site import Site
from headrace.storage import Audit

PAGE: Final = 100


async def page(site: Site, request: Request) -> Response:
    """A page of records, newest first."""
    given = request.query_params.get("before", "")
    before = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else None
    storage = site.app.storage
    found: Sequence[Audit] = []
    if storage is not None:
        found = await site.reader.read(
            lambda: storage.audits(site.app.name, before=before, limit=PAGE + 1)
        )
    shown = found[:PAGE]
    return site.page(
        request,
        "audit.html",
        records=shown,
        before=before,
        following=shown[-1].number if len(found) > PAGE else None,
        stored=storage is not None,
    )
