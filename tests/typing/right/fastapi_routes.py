"""A route's parameters from Headrace have their types."""

from collections.abc import Callable
from typing import Annotated, assert_type

from headrace import Command, Headrace, OpenUnit, Query
from headrace.integrations.fastapi import (
    CorrelationId,
    Problem,
    Problems,
    Provided,
    Send,
    Sender,
    Unit,
    sender,
    unit_of_work,
)
from headrace.integrations.settings import HeadraceSettings
from headrace.integrations.starlette import Lifespan, lifespan


class Join(Command[int]):
    user: str


class Members(Query[list[str]]):
    pass


class Ledger:
    def total(self) -> int:
        return 0


class NotFound(Exception):
    what = "order"


app = Headrace("billing", **HeadraceSettings().options())
SendBilling = Annotated[Sender, sender(app)]
BillingUnit = Annotated[OpenUnit, unit_of_work(app)]


async def route(
    send: Send, unit: Unit, ledger: Provided[Ledger], correlation_id: CorrelationId
) -> None:
    assert_type(await send(Join("ada")), int)
    assert_type(await unit.send(Members()), list[str])
    assert_type(await unit.get(Ledger), Ledger)
    assert_type(ledger.total(), int)
    assert_type(correlation_id, str)


async def named(send: SendBilling, unit: BillingUnit) -> None:
    assert_type(await send(Join("ada")), int)
    assert_type(unit, OpenUnit)


async def by_hand() -> None:
    async with app.unit_of_work(correlation_id="c1") as unit:
        assert_type(unit, OpenUnit)
        assert_type(await unit.send(Join("ada")), int)


def missing(error: NotFound) -> Problem:
    return Problem(status=404, detail=error.what)


problems: Problems = {NotFound: missing, KeyError: 404, ValueError: Problem(status=422)}
own: Callable[..., object] = lifespan(app)
outer: Lifespan = lifespan(app)
