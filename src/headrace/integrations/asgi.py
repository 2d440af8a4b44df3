"""What web frameworks on ASGI share: which apps serve a request, and what of its headers goes with what is sent.

Nothing of a web framework is imported here: a request is its ASGI scope.

Source: ASGI 3.0, "HTTP & WebSocket ASGI message format", and "Lifespan state".
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast

from headrace.app import Headrace
from headrace.causes import callers_trace
from headrace.envelope import check_metadata, new_id
from headrace.errors import AppNotRunning, ConfigurationError
from headrace.messages import Answered

R = TypeVar("R")

Scope = MutableMapping[str, object]
"""The ASGI scope of one connection."""

STATE: Final = "headrace"
"""Where the apps stand: in the lifespan's state, and in the `state` of the web app."""

_CORRELATION: Final = "headrace_correlation_id"
_USABLE: Final = re.compile(r"[!-~]{1,128}")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeaders:
    """Which headers of an HTTP request go with what it sends.

    Args:
        correlation_id: the header with the correlation id of the caller; the response has the same header. Default
            "x-correlation-id". None reads none, for callers who are not trusted: then each request has a fresh id. So has one
            whose header is not 1 to 128 visible ASCII characters.
        metadata: headers that become metadata, by header: `{"x-tenant": "tenant"}`. Default none. A request without the header
            is sent without.
        traceparent: whether the header `traceparent` (W3C Trace Context) goes on to all that the request causes, for services
            without OpenTelemetry, which sees to it by itself. Default: yes.

    Raises:
        EnvelopeError: a name cannot be metadata.
    """

    correlation_id: str | None = "x-correlation-id"
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    traceparent: bool = True

    def __post_init__(self) -> None:
        check_metadata(dict.fromkeys(self.metadata.values(), ""))


@dataclass(frozen=True, slots=True)
class Serving:
    """The apps that serve a web app, and what they read of its requests.

    Args:
        apps: by name, running.
        headers: what goes with what is sent.
    """

    apps: Mapping[str, Headrace]
    headers: RequestHeaders

    def app(self, wanted: Headrace | None) -> Headrace:
        """The app that was asked for or, if none was, the only one.

        Raises:
            ConfigurationError: none was asked for, and there are several.
        """
        if wanted is not None:
            # By name: the twin of a test stands in for the app that the routes know.
            return self.apps.get(wanted.name, wanted)
        if len(self.apps) == 1:
            return next(iter(self.apps.values()))
        raise ConfigurationError(
            f"a route asked for the Headrace app of this web app, which has several: {', '.join(map(repr, self.apps))}. Say "
            f"which: sender(app), unit_of_work(app), provided(key, app)."
        )


async def serve(
    stack: AsyncExitStack, apps: Sequence[Headrace], headers: RequestHeaders
) -> Serving:
    """Start the apps; `stack` stops them, the last first. One that runs already is used and left running.

    Raises:
        ConfigurationError: no apps were given, or two of one name.
    """
    names = [app.name for app in apps]
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(
            f"lifespan({', '.join(map(repr, names))}): give one app or more, each with a name of its own."
        )
    for app in apps:
        if not app.running:
            await stack.enter_async_context(app)
    return Serving({app.name: app for app in apps}, headers)


def app_for(serving: Serving | None, wanted: Headrace | None) -> Headrace:
    """The app that serves a request.

    Raises:
        AppNotRunning: none was asked for, and the lifespan was not entered.
        ConfigurationError: none was asked for, and there are several.
    """
    if serving is not None:
        return serving.app(wanted)
    if wanted is not None:
        return wanted
    raise AppNotRunning(
        "a route asked for its Headrace app, and none is running; nothing was done. Give the web app lifespan=lifespan(app), and "
        "in tests enter it: `async with lifespan(app)(api):`."
    )


def correlation_of(scope: Scope, headers: RequestHeaders) -> str:
    """The correlation id of a request: the caller's, or a fresh one; the same each time it is asked for."""
    state = cast("MutableMapping[str, object]", scope.setdefault("state", {}))
    known = state.get(_CORRELATION)
    if isinstance(known, str):
        return known
    given = _header(scope, headers.correlation_id) if headers.correlation_id else None
    found = given if given is not None and _USABLE.fullmatch(given) else new_id()
    state[_CORRELATION] = found
    return found


def metadata_of(scope: Scope, headers: RequestHeaders) -> dict[str, str] | None:
    """What headers of a request become metadata; None if there are none.

    Raises:
        EnvelopeError: a value cannot travel.
    """
    found = {name: _header(scope, header) for header, name in headers.metadata.items()}
    given = {name: value for name, value in found.items() if value is not None}
    return check_metadata(given) if given else None


def trace_of(scope: Scope, headers: RequestHeaders) -> str | None:
    """The trace of the caller; None without the header, and for one that is not valid, as the standard wants it."""
    given = _header(scope, "traceparent") if headers.traceparent else None
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None


@contextmanager
def traced(trace: str | None) -> Generator[None]:
    """What is sent in the block belongs to the caller's trace."""
    before = callers_trace.get()
    callers_trace.set(trace or before)
    try:
        yield
    finally:
        callers_trace.set(before)


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.lower().encode("latin-1")
    for key, value in cast("Iterable[tuple[bytes, bytes]]", scope["headers"]):
        if key.lower() == wanted:
            return value.decode("latin-1")
    return None


class Sender:
    """Sends requests for one HTTP request: `await send(JoinMeeting("u1", "m1"))`.

    Args:
        app: the app that serves the request.
        correlation_id: goes with all that is sent.
        metadata: goes with all that is sent.
        traceparent: goes with all that is sent.
    """

    __slots__ = ("app", "correlation_id", "metadata", "traceparent")

    def __init__(
        self,
        app: Headrace,
        *,
        correlation_id: str,
        metadata: Mapping[str, str] | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.app = app
        self.correlation_id = correlation_id
        self.metadata = metadata
        self.traceparent = traceparent

    async def __call__(
        self,
        request: Answered[R],
        *,
        metadata: Mapping[str, str] | None = None,
        savepoint: bool = False,
    ) -> R:
        """Send a request and answer the response; see `Headrace.send`. Within the unit of the HTTP request it joins that.

        Args:
            request: an instance of a bound request class.
            metadata: such as the user that was authenticated; besides what the headers give, and before it.
            savepoint: within a unit: a failure undoes just this send and its events, and may be caught.
        """
        if self.metadata:
            metadata = {**self.metadata, **(metadata or {})}
        with traced(self.traceparent):
            return await self.app.send(
                request, correlation_id=self.correlation_id, metadata=metadata, savepoint=savepoint
            )
