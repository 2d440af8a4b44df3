"""Log records tell which message they are about, those of Headrace and those of its users."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from headrace import Envelope, Events, Headrace, Retry, Subscription
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.logs import FIELDS, ContextFilter, add_context
from headrace.telemetry import LogEvent
from tests.unit.heart import Announced, Join, make_app

users = logging.getLogger("shop")
structured = structlog.get_logger("shop")


def shop(*, fails: bool = False) -> Headrace:
    async def join(request: Join, events: Events, envelope: Envelope) -> str:
        users.info("joining")
        structured.info("joining", own="yes")
        events.append(Announced())
        return envelope.id

    async def seat(event: Announced) -> None:
        users.info("finds a chair")
        if fails:
            raise LookupError("no chair")

    return make_app(
        (Join, join),
        (Announced, seat),
        storage=MemoryStorage(),
        broker=MemoryBroker(),
        subscriptions=[Subscription(group="seating", topics=["meetings"], retry=Retry(attempts=1))],
    )


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []
        self.addFilter(ContextFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def one(self, message: str) -> Any:
        (found,) = [one for one in self.records if message in one.getMessage()]
        return found


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, root = Kept(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def test_the_users_records_tell_what_is_handled(kept: Kept) -> None:
    """Section 2: message id and correlation id, in handlers of requests and of consumed events."""
    async with shop() as app:
        request_id = await app.send(Join(), correlation_id="order-1")
        await app.settle()
    joining, seating = kept.one("joining"), kept.one("finds a chair")
    assert (joining.app, joining.message_id) == ("meetings", request_id)
    assert joining.message_type == "tests.unit.heart.Join"
    assert joining.correlation_id == seating.correlation_id == "order-1"
    assert seating.message_type == "meetings.announced.v1"
    assert seating.causation_id == request_id
    assert joining.causation_id == ""


async def test_headraces_own_records_have_their_details_as_attributes(kept: Kept) -> None:
    """Section 2: a format string may name any field; one that does not apply is empty."""
    async with shop(fails=True) as app:
        await app.send(Join())
        await app.settle()
    dead, seating = kept.one("dead letter after 1 attempts"), kept.one("finds a chair")
    assert (dead.app, dead.group, dead.topic, dead.attempts) == (
        *("meetings", "seating", "meetings"),
        1,
    )
    assert dead.message_id == seating.message_id
    assert dead.event_name == dead.headrace["event"] == LogEvent.DEAD
    assert (dead.message_type, dead.correlation_id) == (
        "meetings.announced.v1",
        seating.correlation_id,
    )
    assert kept.one("is running").event_name == LogEvent.APP_STARTED
    for record in kept.records:
        assert all(hasattr(record, name) for name in FIELDS)
        assert record.message_id is not None


def test_outside_of_a_unit_there_is_nothing_to_add(kept: Kept) -> None:
    """A record of a start-up has empty fields, and what a record has already is left alone."""
    users.info("starting", extra={"message_id": "mine"})
    record = kept.one("starting")
    assert (record.message_id, record.correlation_id, record.app) == ("mine", "", "")
    assert add_context(None, "info", {"event": "starting"}) == {"event": "starting"}


async def test_structlog_events_tell_what_is_handled() -> None:
    """Section 2: a processor, with the real structlog."""
    out = io.StringIO()
    structlog.configure(
        processors=[add_context, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(out),
    )
    try:
        async with shop() as app:
            request_id = await app.send(Join(), correlation_id="order-1")
    finally:
        structlog.reset_defaults()
    assert json.loads(out.getvalue()) == {
        "event": "joining",
        "own": "yes",
        "app": "meetings",
        "message_id": request_id,
        "message_type": "tests.unit.heart.Join",
        "correlation_id": "order-1",
    }


async def test_structlog_renders_headraces_records_with_their_details() -> None:
    """Section 2: by structlog's formatter for records of the standard library."""
    out = io.StringIO()
    handler, logger = logging.StreamHandler(out), logging.getLogger("headrace")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, add_context],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logger.addHandler(handler)
    try:
        async with shop(fails=True) as app:
            await app.send(Join())
            await app.settle()
    finally:
        logger.removeHandler(handler)
    events = [json.loads(line) for line in out.getvalue().splitlines() if line.startswith("{")]
    (dead,) = [one for one in events if "dead letter after 1 attempts" in one["event"]]
    assert dead["level"] == "error"
    assert (dead["group"], dead["attempts"], dead["app"]) == ("seating", 1, "meetings")
    assert dead["message_id"]
    assert dead["event_name"] == LogEvent.DEAD
