"""The kits find what is broken: every clause fails on a driver that breaks its promise."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance import (
    broker_doubles,
    codec_doubles,
    container_doubles,
    storage_doubles,
)
from tests.conformance.doubles import Doubles

Module = (
    type[storage_doubles.DoubleKit]
    | type[broker_doubles.DoubleKit]
    | type[container_doubles.DoubleKit]
    | type[codec_doubles.DoubleKit]
)

KITS = [
    pytest.param(storage_doubles.DoubleKit, storage_doubles.DOUBLES, id="storage"),
    pytest.param(broker_doubles.DoubleKit, broker_doubles.DOUBLES, id="broker"),
    pytest.param(container_doubles.DoubleKit, container_doubles.DOUBLES, id="container"),
    pytest.param(codec_doubles.DoubleKit, codec_doubles.DOUBLES, id="codec"),
]


async def run(kit: object, clause: str) -> None:
    async with asyncio.timeout(5):
        await getattr(kit, clause)()


def cases(doubles: Doubles) -> list[object]:
    return [
        pytest.param(double, clause, id=f"{double.__name__}-{clause.removeprefix('test_')}")
        for double, clause in doubles.cases
    ]


@pytest.mark.parametrize(("double", "clause"), cases(storage_doubles.DOUBLES))
async def test_a_broken_storage_is_found(
    double: type[storage_doubles.Faithful], clause: str
) -> None:
    """The clause fails on a storage that breaks its promise."""
    with pytest.raises(double.found_by):
        await run(storage_doubles.DoubleKit(double), clause)


@pytest.mark.parametrize(("double", "clause"), cases(broker_doubles.DOUBLES))
async def test_a_broken_broker_is_found(double: type[broker_doubles.Faithful], clause: str) -> None:
    """The clause fails on a broker that breaks its promise."""
    with pytest.raises(double.found_by):
        await run(broker_doubles.DoubleKit(double), clause)


@pytest.mark.parametrize(("double", "clause"), cases(container_doubles.DOUBLES))
async def test_a_broken_container_is_found(
    double: type[container_doubles.Faithful], clause: str
) -> None:
    """The clause fails on a container that breaks its promise."""
    with pytest.raises(double.found_by):
        await run(container_doubles.DoubleKit(double), clause)


@pytest.mark.parametrize(("double", "clause"), cases(codec_doubles.DOUBLES))
async def test_a_broken_codec_is_found(double: type[codec_doubles.Faithful], clause: str) -> None:
    """The clause fails on a codec that breaks its promise."""
    with pytest.raises(double.found_by):
        await run(codec_doubles.DoubleKit(double), clause)


@pytest.mark.parametrize("clause", container_doubles.DoubleKit.clauses())
async def test_an_unbroken_container_passes(clause: str) -> None:
    """The clause passes on the container that the doubles are made of, so they fail for what they break."""
    await run(container_doubles.DoubleKit(container_doubles.Faithful), clause)


@pytest.mark.parametrize("clause", codec_doubles.DoubleKit.clauses())
async def test_an_unbroken_codec_passes(clause: str) -> None:
    """The clause passes on the codec that the doubles are made of, so they fail for what they break."""
    await run(codec_doubles.DoubleKit(codec_doubles.Faithful), clause)


@pytest.mark.parametrize("clause", storage_doubles.DoubleKit.clauses())
async def test_an_unbroken_storage_passes(clause: str) -> None:
    """The clause passes on the storage that the doubles are made of, so they fail for what they break."""
    await run(storage_doubles.DoubleKit(storage_doubles.Faithful), clause)


@pytest.mark.parametrize("clause", broker_doubles.DoubleKit.clauses())
async def test_an_unbroken_broker_passes(clause: str) -> None:
    """The clause passes on the broker that the doubles are made of, so they fail for what they break."""
    await run(broker_doubles.DoubleKit(broker_doubles.Faithful), clause)


@pytest.mark.parametrize(("kit", "doubles"), KITS)
def test_every_clause_has_a_double(kit: Module, doubles: Doubles) -> None:
    """No clause is without a broken driver that it finds, and no double names a clause that is not there."""
    assert set(kit.clauses()) == doubles.caught
