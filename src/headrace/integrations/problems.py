"""Errors as problem details: what a client is told, and nothing of what is inside.

Source: RFC 9457, "Problem Details for HTTP APIs" (2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from headrace.errors import (
    AppNotRunning,
    BrokerUnavailable,
    CommitOutcomeUnknown,
    ConfigurationError,
    HeadraceError,
    MessageTooLarge,
    StorageBusy,
    StorageUnavailable,
)
from headrace.text import said_by

MEDIA_TYPE: Final = "application/problem+json"
"""What problem details are sent as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a client is told of an error.

    Args:
        status: the HTTP status, 400 to 599.
        title: what kind of problem it is, the same each time. Default: the status in words.
        detail: what happened this time, for the person at the other end. Default: for a status below 500 the text of the
            error, unless it is one of Headrace's; otherwise nothing.
        type: a URI that names the kind of problem. Default "about:blank": there is nothing to know but the status.
        retry_after_seconds: when the client may try again, as the header `Retry-After`. Default: not said.
        extensions: further members, such as `{"balance": 30}`.

    Raises:
        ConfigurationError: the status is no error, or an extension has the name of a member of its own.
    """

    status: int
    title: str | None = None
    detail: str | None = None
    type: str = "about:blank"
    retry_after_seconds: int | None = None
    extensions: Mapping[str, object] = field(default_factory=dict[str, object])

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ConfigurationError(
                f"Problem(status={self.status}): a problem has a status from 400 to 599."
            )
        taken = sorted(OWN_MEMBERS & self.extensions.keys())
        if taken:
            raise ConfigurationError(
                f"Problem(extensions=...): {', '.join(taken)} are members of their own. Take other names."
            )

    def body(self, *, error: Exception, instance: str, correlation_id: str) -> dict[str, object]:
        """The members of the problem details.

        Args:
            error: what was raised.
            instance: where: the path of the request.
            correlation_id: with which the log tells more.
        """
        detail = self.detail
        own = isinstance(error, HeadraceError)  # its text is for who runs the service
        if detail is None and not own and self.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            detail = said_by(error)
        return {
            "type": self.type,
            "title": self.title or _phrase(self.status),
            "status": self.status,
            **({"detail": detail} if detail else {}),
            "instance": instance,
            "correlation_id": correlation_id,
            **self.extensions,
        }


OWN_MEMBERS: Final = frozenset({"type", "title", "status", "detail", "instance", "correlation_id"})
"""The members that have a meaning of their own."""

Problems = Mapping[type[Exception], "int | Problem | Callable[..., int | Problem]"]
"""What errors become, by class: a status, a `Problem`, or a function of the error that answers one of them."""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _own(status: int, name: str, detail: str, *, retry_after_seconds: int | None = None) -> Problem:
    title = name.replace("-", " ").capitalize()
    return Problem(
        status=status,
        title=title,
        detail=detail,
        type=f"urn:headrace:{name}",
        retry_after_seconds=retry_after_seconds,
    )


OWN: Final[Problems] = {
    StorageBusy: _own(
        503,
        "busy",
        "The service has too much to do at the moment. Nothing was done; try again.",
        retry_after_seconds=1,
    ),
    StorageUnavailable: _own(
        503,
        "storage-unavailable",
        "The service cannot reach its database. Nothing was done; try again later.",
        retry_after_seconds=5,
    ),
    AppNotRunning: _own(
        503,
        "not-running",
        "The service is starting or stopping. Nothing was done; try again.",
        retry_after_seconds=5,
    ),
    # Without a storage the handlers have succeeded when it is raised: to try again may repeat what they did.
    BrokerUnavailable: _own(
        503,
        "broker-unavailable",
        "The service cannot reach its message broker, so others were not told of what was done.",
    ),
    CommitOutcomeUnknown: _own(
        500,
        "outcome-unknown",
        "The connection to the database was lost at the last moment: it was done, or it was not. Look before you try again.",
    ),
    MessageTooLarge: _own(
        413, "too-large", "The request makes a message that is too large. Nothing was done."
    ),
    HeadraceError: Problem(status=500, detail="An error in the service. It has been logged."),
}
"""What Headrace's own errors become, unless the application says otherwise."""

UNKNOWN: Final = Problem(status=500, detail="An error in the service. It has been logged.")
"""What an error becomes that nobody expected."""


def problem_of(error: Exception, problems: Problems) -> Problem:
    """What an error becomes: by the nearest of its classes in `problems`, else `UNKNOWN`."""
    for kind in type(error).__mro__:
        if issubclass(kind, Exception) and kind in problems:
            answer = problems[kind]
            found = answer if isinstance(answer, int | Problem) else answer(error)
            return Problem(status=found) if isinstance(found, int) else found
    return UNKNOWN
