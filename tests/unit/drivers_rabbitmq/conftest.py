"""A corner of the shared RabbitMQ for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.unit.drivers_rabbitmq.place import Place


@pytest.fixture
async def place() -> AsyncGenerator[Place]:
    """Names of its own; all is deleted at the end."""
    place = Place()
    yield place
    await place.close()
