"""What keeps other sites and other people out: headers, the check of where a request comes from, the token of forms.

Source: OWASP "Cross-Site Request Forgery Prevention": a cookie whose value the form repeats, SameSite, and the origin that the
browser tells.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

COOKIE: Final = "headrace_form"
FIELD: Final = "form_token"

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_MOST_FIELDS: Final = 1000

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Not "no-referrer": with it browsers tell no origin with a form.
_HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Refused(Exception):
    """A request is not answered because of whom it comes from, or of where.

    Args:
        text: for the person: what is wrong and what to do.
        code: of the answer; default 403. 400 where the request makes no sense, whoever sends it.
    """

    def __init__(self, text: str, *, code: int = 403) -> None:
        super().__init__(text)
        self.code = code


class Form:
    """The fields of a form or of a query, in order; a name may be there several times."""

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        # No database takes the letter NUL, and no page of ours sends it.
        self._fields = [(name, value.replace("\0", "")) for name, value in fields]

    def any(self, name: str) -> str | None:
        """The first value, or None."""
        return next((value for key, value in self._fields if key == name), None)

    def one(self, name: str) -> str:
        """The first value, or ""."""
        return self.any(name) or ""

    def all(self, name: str) -> list[str]:
        """All values."""
        return [value for key, value in self._fields if key == name]


def asked_of(request: Request) -> Form:
    """The query of an address."""
    return Form(request.query_params.multi_items())


def protect(response: Response) -> None:
    """Set the headers that every answer has."""
    response.headers["content-security-policy"] = _POLICY
    response.headers.update(_HEADERS)
    response.headers.setdefault("cache-control", "no-store")


def token_for(request: Request) -> str:
    """The token of this browser, or a new one, which `remember` sets."""
    given = request.cookies.get(COOKIE, "")
    return given if _TOKEN.fullmatch(given) else secrets.token_urlsafe(32)


def remember(response: Response, request: Request, token: str) -> None:
    """Give the browser its token, if it has not got it."""
    if request.cookies.get(COOKIE) != token:
        # The root as path: behind a proxy the dashboard does not know where it stands.
        response.set_cookie(
            COOKIE,
            token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )


async def form_of(request: Request, *, trusted: Collection[str], most_bytes: int) -> Form:
    """The fields that a page of this dashboard has sent.

    Args:
        request: a POST.
        trusted: origins that are this dashboard's besides the one that the request itself names.
        most_bytes: the largest body that is read.

    Raises:
        Refused: another site has made the browser send it, or it is no form of this dashboard.
    """
    check_origin(request, trusted)
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Refused("This is no form of the dashboard. Nothing was changed.", code=415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise Refused(
                f"The form is larger than {most_bytes:,} bytes. Nothing was changed.", code=413
            )
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        )
    except ValueError:
        raise Refused("The form cannot be read. Nothing was changed.", code=400) from None
    form = Form(fields)
    cookie = request.cookies.get(COOKIE, "")
    if not _TOKEN.fullmatch(cookie) or not hmac.compare_digest(
        cookie.encode(), form.one(FIELD).encode()
    ):
        raise Refused(
            "The form does not carry the token of this browser. Nothing was changed. Load the page again; the browser must "
            "accept its cookie."
        )
    return form


def check_origin(request: Request, trusted: Collection[str]) -> None:
    """Refuse what a page of another site has made the browser send.

    Raises:
        Refused: it comes from elsewhere, or the browser does not say from where.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if origin is not None and origin in trusted:
        return
    if site is not None:
        if site == "same-origin":
            return
    elif origin is not None and urlsplit(origin).netloc == request.headers.get("host"):
        return
    raise Refused(
        f"The form was sent from {origin or 'an unknown site'}, not from this dashboard. Nothing was changed. If the dashboard "
        "stands behind a proxy that changes the Host header, pass Dashboard(trusted_origins=[...]) its address."
    )
