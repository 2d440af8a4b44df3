"""A place of its own for each test, on both servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import engines
from tests.unit.drivers_nats.place import KINDS, Place, Proxy, server


@pytest.fixture(params=KINDS)
def nats_server(request: pytest.FixtureRequest) -> engines.Server:
    return server(request.param)


@pytest.fixture
async def place(nats_server: engines.Server) -> AsyncIterator[Place]:
    place = Place(nats_server.url)
    yield place
    await place.close()


@pytest.fixture
async def proxy(nats_server: engines.Server) -> AsyncIterator[Proxy]:
    async with Proxy(nats_server.port) as proxy:
        yield proxy
