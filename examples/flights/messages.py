"""The words of the application: what it is told to do, what happened in it, and what it tells others."""

from __future__ import annotations

import os
from datetime import datetime

from headrace import Command, DomainEvent, NotificationEvent

# A topic belongs to the class. A broker keeps what an earlier run left in it, so a run may have a topic of its own.
TOPIC = f"flights{os.environ.get('FLIGHTS_RUN', '')}"

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
    at: datetime
    origin: str
    dest: str
    delay_minutes: int


class FlightLanded(DomainEvent):
    flight_id: str
    carrier: str
    tailnum: str | None
    at: datetime
    dest: str
    delay_minutes: int | None


class FlightCancelled(DomainEvent):
    flight_id: str
    carrier: str
    tailnum: str | None
    at: datetime
    origin: str


class LongDelay(DomainEvent):
    """A flight left so late that somebody should look after its passengers. Follows from `FlightDeparted`."""

    flight_id: str
    carrier: str
    tailnum: str | None
    at: datetime
    origin: str
    delay_minutes: int


# Notification events: told to whoever listens, in order for each aircraft ------------------------------------------------
#
# A flight without an aircraft has no key, so nothing is in order with it. `stamp` sorts what is told of one aircraft as it
# happened: by the minute; within it a landing comes before a departure, and that before what follows from it.


class DepartureAnnounced(NotificationEvent, type="flights.departed.v1", topic=TOPIC, key="tailnum"):
    flight_id: str
    carrier: str
    tailnum: str | None
    at: datetime
    origin: str
    dest: str
    delay_minutes: int

    @property
    def stamp(self) -> str:
        return f"{self.at.isoformat()} 1 {self.flight_id}"


class LandingAnnounced(NotificationEvent, type="flights.landed.v1", topic=TOPIC, key="tailnum"):
    flight_id: str
    carrier: str
    tailnum: str | None
    at: datetime
    dest: str
    delay_minutes: int | None

    @property
    def stamp(self) -> str:
        return f"{self.at.isoformat()} 0 {self.flight_id}"


class CancellationAnnounced(
    NotificationEvent, type="flights.cancelled.v1", topic=TOPIC, key="tailnum"
):
    flight_id: str
    carrier: str
    tailnum: str | None
    at: datetime
    origin: str

    @property
    def stamp(self) -> str:
        return f"{self.at.isoformat()} 2 {self.flight_id}"


class LongDelayAnnounced(
    NotificationEvent, type="flights.long-delay.v1", topic=TOPIC, key="tailnum"
):
    flight_id: str
    carrier: str
    tailnum: str | None
    at: datetime
    origin: str
    delay_minutes: int

    @property
    def stamp(self) -> str:
        return f"{self.at.isoformat()} 1 {self.flight_id} long delay"
