"""A place of its own for each test, on a server that the tests of this process share and that forgets when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.drivers_kafka.place import REAL, Place, Proxy, server


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    if REAL is not None:
        made = Place(REAL.partition("://")[2])
        yield made
        await made.close()
        return
    tansu = server(in_memory=True)
    async with Proxy(tansu.outer_port, tansu.port) as through:
        made = Place(f"127.0.0.1:{tansu.outer_port}")
        made.proxy = through
        yield made
        through.let()
        await made.close()


@pytest.fixture
def proxy(place: Place) -> Proxy:
    """What stands between the clients and the server of this test."""
    if place.proxy is None:
        pytest.skip("HEADRACE_KAFKA_URL names the server: its connections cannot be cut")
    return place.proxy
