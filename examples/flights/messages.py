"""The words of the application: what it is told to do, what happened in it, and what it tells others."""

from __future__ import annotations

from datetime import datetime

from headrace import Command, DomainEvent, NotificationEvent

TOPIC = "flights"

# Commands -------------------------------------------------------------------------------------------------------------


class DepartFlight(Command[None]):
    """A flight leaves."""

    flight_id: str
    carrier: str
    tailnum: str | None
    origin: str
    dest: str
    at: datetime
    delay_minutes: int


class LandFlight(Command[None]):
    """A flight that has left lands. Its delay is not known after a diversion."""

    flight_id: str
    at: datetime
    delay_minutes: int | None


class CancelFlight(Command[None]):
    """A flight will not leave. It may not have had an aircraft yet."""

    flight_id: str
    carrier: str
    tailnum: str | None
    origin: str
    dest: str
    at: datetime


# Domain events: handled in the transaction of the command that raised them -----------------------------------------------


class FlightDeparted(DomainEvent):
    flight_id: str
    carrier: str
    tailnum: str | None
    origin: str
    dest: str
    delay_minutes: int


class FlightLanded(DomainEvent):
    flight_id: str
    carrier: str
    tailnum: str | None
    dest: str
    delay_minutes: int | None


class FlightCancelled(DomainEvent):
    flight_id: str
    carrier: str
    tailnum: str | None
    origin: str


class LongDelay(DomainEvent):
    """A flight left so late that somebody should look after its passengers. Follows from `FlightDeparted`."""

    flight_id: str
    carrier: str
    tailnum: str | None
    origin: str
    delay_minutes: int


# Notification events: told to whoever listens, in order for each aircraft ------------------------------------------------
#
# `number` counts what is told of an aircraft, from 1. A listener sees by it whether it missed, repeated or swapped
# something. A flight without an aircraft has neither a key nor a number: nothing is in order with it.


class DepartureAnnounced(NotificationEvent, type="flights.departed.v1", topic=TOPIC, key="tailnum"):
    flight_id: str
    carrier: str
    tailnum: str | None
    number: int | None
    origin: str
    dest: str
    delay_minutes: int


class LandingAnnounced(NotificationEvent, type="flights.landed.v1", topic=TOPIC, key="tailnum"):
    flight_id: str
    carrier: str
    tailnum: str | None
    number: int | None
    dest: str
    delay_minutes: int | None


class CancellationAnnounced(
    NotificationEvent, type="flights.cancelled.v1", topic=TOPIC, key="tailnum"
):
    flight_id: str
    carrier: str
    tailnum: str | None
    number: int | None
    origin: str


class LongDelayAnnounced(
    NotificationEvent, type="flights.long-delay.v1", topic=TOPIC, key="tailnum"
):
    flight_id: str
    carrier: str
    tailnum: str | None
    number: int | None
    origin: str
    delay_minutes: int
