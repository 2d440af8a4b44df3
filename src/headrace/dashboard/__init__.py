"""The dashboard: pages that show an app's flow, its messages, backlogs and dead letters. Needs the extra `dashboard`."""

from __future__ import annotations

from headrace.errors import MissingExtra

try:
    import jinja2 as _jinja2
    import starlette as _starlette
except ImportError as _error:
    raise MissingExtra(
        f"headrace.dashboard needs the package {_error.name!r}, which is not installed. Install the extra: "
        "pip install 'headrace[dashboard]'"
    ) from _error

from headrace.dashboard.actions import Action, Authorize, AuthorizeView, Doing
from headrace.dashboard.app import Dashboard
from headrace.redaction import Redact

__all__ = [
    "Action",
    "Authorize",
    "AuthorizeView",
    "Dashboard",
    "Doing",
    "Redact",
]

del _jinja2, _starlette  # only to see that they are there
