"""Log records never disturb what they tell of."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from headrace.drivers.memory import MemoryBroker, MemoryStorage
from tests.unit.heart import Announced, Join, make_app, raising


class FailingFilter(logging.Filter):
    """A user's filter that fails: `logging` passes its error on to who logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise KeyError("tenant")


@pytest.fixture
def failing() -> Iterator[None]:
    """The user's configuration, while an app runs."""
    logger, broken = logging.getLogger("headrace"), FailingFilter()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(broken)
    yield
    logger.removeFilter(broken)
    logger.setLevel(before)


@pytest.mark.usefixtures("failing")
async def test_a_filter_that_fails_ends_no_send_and_no_loop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The flow goes on, and the error is written where `logging` writes those of handlers (G4, G13)."""
    heard: list[str] = []

    async def hear(event: Announced) -> None:
        if not heard:
            heard.append("once")
            raise ValueError("a record is written of this")
        heard.append(event.user)

    app = make_app(
        (Join, raising(Announced())),
        (Announced, hear),
        storage=MemoryStorage(),
        broker=MemoryBroker(),
    )
    async with app:
        await app.send(Join())
        await app.settle()
    assert heard == ["once", "u1"]
    assert "KeyError: 'tenant'" in capsys.readouterr().err
