"""A place of its own for each test, on a server that this test run has for itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import engines
from tests.unit.drivers_redis.place import Place, server


@pytest.fixture
def redis_server() -> engines.Server:
    return server()


@pytest.fixture
async def place(redis_server: engines.Server) -> AsyncIterator[Place]:
    place = Place(redis_server.url)
    yield place
    await place.close()
