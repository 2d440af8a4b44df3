"""The dashboard: pages that show an app's flow, its messages, backlogs and dead letters. Needs the extra `dashboard`."""

from __future__ import annotations

import importlib.util

from headrace.errors import MissingExtra

_missing = [name for name in ("starlette", "jinja2") if importlib.util.find_spec(name) is None]
if _missing:
    raise MissingExtra(
        f"headrace.dashboard needs {' and '.join(repr(name) for name in _missing)}, which is not installed. Install the extra: "
        "pip install 'headrace[dashboard]'"
    )

from headrace.dashboard.actions import Action, Authorize, AuthorizeView, Doing  # noqa: E402
from headrace.dashboard.app import Dashboard  # noqa: E402
from headrace.dashboard.redaction import Redact  # noqa: E402

__all__ = [
    "Action",
    "Authorize",
    "AuthorizeView",
    "Dashboard",
    "Doing",
    "Redact",
]
