"""AsyncAPI documents are valid by the official parser and by the official JSON Schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from examples.flights.operations import operations
from examples.flights.replay import replays
from examples.flights.statistics import statistics
from headrace import Headrace
from headrace.asyncapi import document, to_yaml
from tests.asyncapi.apps import make
from tests.asyncapi.official import NotInstalled, faults_of, install

BROKERS = {
    "memory": "memory://",
    "kafka": "kafka://k1,k2:9093?prefix=eu.",
    "rabbitmq": "amqps://u:p@rabbit/shop",
    "nats": "nats://n1,n2",
    "redis": "rediss://u:p@r/2",
}

pytestmark = pytest.mark.timeout(300)


def flights(broker: str) -> Headrace:
    modules = [operations, statistics, replays]
    storage = "sqlite+aiosqlite:///never-opened.db"
    return Headrace("flights", modules=modules, storage=storage, broker=broker)


@pytest.fixture(scope="module", autouse=True)
def official() -> None:
    try:
        install()
    except NotInstalled as missing:
        pytest.skip(f"asyncapi: {missing}")


@pytest.mark.parametrize("app", [make, flights], ids=["every kind of message", "flights"])
def test_documents_are_valid_on_every_broker(
    app: Callable[[str], Headrace], tmp_path: Path
) -> None:
    """With requests and without, as JSON and as YAML."""
    documents: dict[str, str] = {}
    for name, url in {**BROKERS, "sql": "sql://"}.items():
        if name == "sql" and app is make:
            continue  # it has no database
        for requests in (False, True):
            found = document(app(url), requests=requests)
            documents[f"{name} {requests}.json"] = msgspec.json.encode(found).decode()
            documents[f"{name} {requests}.yaml"] = to_yaml(found)
    faults = faults_of(documents, tmp_path)
    assert len(faults) == len(documents)
    assert {name: found for name, found in faults.items() if found} == {}


def test_both_find_faults(tmp_path: Path) -> None:
    """The parser finds a reference to nothing; the schema finds a binding of the wrong type."""
    good = document(make("kafka://k"))
    text = msgspec.json.encode(good).decode()
    broken = {
        "reference.json": text.replace('"#/components/messages/Paid"', '"#/components/messages/X"'),
        "binding.json": text.replace('"partitions":4', '"partitions":"four"'),
    }
    faults = faults_of(broken, tmp_path)
    assert any("invalid-ref" in one for one in faults["reference.json"])
    assert any(one.startswith("schema /channels/orders/bindings") for one in faults["binding.json"])
