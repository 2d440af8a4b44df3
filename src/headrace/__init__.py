"""Headrace: commands in, events out, nothing lost, nothing done twice, nothing out of order, and you can see it flow."""

from headrace.app import Headrace
from headrace.broker import Topic
from headrace.dispatcher import EventDispatcher
from headrace.emitter import EventEmitter
from headrace.envelope import Envelope
from headrace.errors import HeadraceError
from headrace.handlers import EventHandler, Events, RequestHandler
from headrace.limits import Limits
from headrace.maps import EventMap, RequestMap
from headrace.mediator import RequestMediator
from headrace.messages import Command, DomainEvent, Event, NotificationEvent, Query, Request
from headrace.middleware import Middleware, Next
from headrace.module import Module
from headrace.notifications import notification
from headrace.open_unit import OpenUnit
from headrace.sensitive import Sensitive
from headrace.subscriptions import Retry, Subscription

__all__ = [
    "Command",
    "DomainEvent",
    "Envelope",
    "Event",
    "EventDispatcher",
    "EventEmitter",
    "EventHandler",
    "EventMap",
    "Events",
    "Headrace",
    "HeadraceError",
    "Limits",
    "Middleware",
    "Module",
    "Next",
    "NotificationEvent",
    "OpenUnit",
    "Query",
    "Request",
    "RequestHandler",
    "RequestMap",
    "RequestMediator",
    "Retry",
    "Sensitive",
    "Subscription",
    "Topic",
    "notification",
]
