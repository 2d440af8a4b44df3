"""What an app was given, as data."""

from __future__ import annotations

from msgspec import Struct

from headrace.assembly.deliveries import DEFAULT
from headrace.broker import Broker, Topic
from headrace.emitter import Unhandled
from headrace.limits import Limits
from headrace.maps import EventMap, RequestMap
from headrace.middleware import Middleware
from headrace.module import Module
from headrace.recorder import Recorder
from headrace.storage import Storage
from headrace.subscriptions import Subscription


class Settings(Struct, frozen=True, kw_only=True):
    """What `Headrace(...)` was given."""

    name: str
    requests: RequestMap
    events: EventMap
    modules: tuple[Module, ...]
    providers: tuple[object, ...]
    container: object | None
    storage: str | Storage | None
    broker: str | Broker | None
    roles: frozenset[str]
    middlewares: tuple[Middleware | type, ...]
    event_middlewares: tuple[Middleware | type, ...]
    subscriptions: tuple[Subscription, ...]
    topics: tuple[Topic, ...]
    limits: Limits
    unhandled: Unhandled
    after_commit: Subscription = DEFAULT
    overrides: tuple[tuple[type, object], ...] = ()
    recorder: Recorder | None = None
