"""What all pages of one dashboard share: the app, its settings, and how a page is made of a template."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette._utils import get_route_path
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from headrace.app import Headrace
from headrace.dashboard.actions import Action, Authorize, AuthorizeView, Doing, who_may
from headrace.dashboard.reading import Reader
from headrace.dashboard.security import protect, remember, token_for
from headrace.dashboard.words import FILTERS
from headrace.drawing.style import STYLE
from headrace.redaction import Hidden, Redaction

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"

PAGES: Final = (
    ("", "Flow"),
    ("messages", "Messages"),
    ("backlogs", "Backlogs"),
    ("dead", "Dead letters"),
    ("audit", "Audit"),
)
"""The pages in the header: path and name."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One dashboard.

    Args:
        app: whose pages these are.
        title: in the header.
        redaction: what is hidden.
        reader: every read goes through it.
        authorize: see `Dashboard`.
        authorize_view: see `Dashboard`.
        trusted_origins: see `Dashboard`.
    """

    app: Headrace
    title: str
    redaction: Redaction
    reader: Reader
    authorize: Authorize | None
    authorize_view: AuthorizeView | None
    trusted_origins: Collection[str]

    def page(
        self,
        request: Request,
        template: str,
        *,
        code: int = 200,
        **values: object,
    ) -> Response:
        """A page.

        Args:
            request: that it answers.
            template: its file.
            code: of the answer.
            values: for the template.
        """
        token = token_for(request)
        here = get_route_path(request.scope).strip("/")
        text = (
            environment()
            .get_template(template)
            .render(
                base=base_of(request),
                site=self,
                pages=PAGES,
                here=here.partition("/")[0],
                asked=request.query_params.get("of", ""),
                form_token=token,
                assets=fingerprint(),
                **values,
            )
        )
        response = HTMLResponse(text, status_code=code)
        if request.method == "POST" or "form_token" in text:
            remember(response, request, token)
        protect(response)
        return response

    async def offers(self, request: Request, positions: Iterable[int] = ()) -> frozenset[str]:
        """The kinds of actions that this person may do."""
        if self.authorize is None:
            return frozenset()
        asked = [Action(doing=doing, positions=tuple(positions), asking=True) for doing in Doing]
        allowed = [one for one in asked if await who_may(self.authorize, request, one)]
        return frozenset(one.doing.value for one in allowed)

    def hidden(self, type: str) -> Hidden:  # noqa: A002
        """What is hidden in bodies of this type."""
        return self.redaction.of(type)


def base_of(request: Request) -> str:
    """The way from this page to the first one, as a relative link: right behind any proxy and at any mount."""
    depth = get_route_path(request.scope).lstrip("/").count("/")
    return "../" * depth or "./"


def go(request: Request, to: str) -> Response:
    """See another page of the dashboard now, by its path below the first one."""
    response = RedirectResponse(base_of(request) + to, status_code=303)
    protect(response)
    return response


@cache
def environment() -> Environment:
    """The templates. Everything that is put into them is escaped."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, words in FILTERS.items():
        made.filters[name] = words  # pyright: ignore[reportUnknownMemberType]
    return made


@cache
def fingerprint() -> str:
    """Changes with the assets, so that browsers may keep them."""
    found = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        found.update(path.read_bytes())
    found.update(STYLE.encode())
    return found.hexdigest()[:12]
