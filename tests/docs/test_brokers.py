"""docs/brokers/README.md shows what the drivers declare."""

from __future__ import annotations

import re

from headrace.assembly.urls import broker_from
from headrace.broker import BrokerGuarantees
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "brokers" / "README.md"
URLS = {
    "sql://": "sql://",
    "kafka://": "kafka://host:9092",
    "amqp://": "amqp://host",
    "nats://": "nats://host",
    "redis://": "redis://host",
    "memory://": "memory://",
}


def row(guarantees: BrokerGuarantees) -> list[str]:
    """The cells of a driver's row."""
    body = guarantees.max_body_bytes
    yes = [guarantees.durable, guarantees.ordered_batch, guarantees.retains]
    return [
        *("yes" if one else "no" for one in yes),
        "no limit" if body is None else f"{body:,}".replace(",", " "),
    ]


def test_the_table_is_what_the_drivers_declare() -> None:
    """Each broker's row has the guarantees of its driver, as it comes."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition("| broker | durable |")
    rows = re.findall(r"^\| `(\w+://)` \| (.+) \|$", table, re.MULTILINE)
    shown = {scheme: cells.split(" | ") for scheme, cells in rows}
    assert shown == {scheme: row(broker_from(url).guarantees) for scheme, url in URLS.items()}
