"""The AsyncAPI document of an app: channels, operations, messages and schemas, in the words of each broker."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, assert_type
from uuid import UUID

import msgspec
import pytest

from headrace import Events, Headrace, Module, NotificationEvent
from headrace.asyncapi import document, to_yaml
from headrace.asyncapi.schemas import Schemas
from headrace.codec import JsonCodec
from tests.asyncapi.apps import Address, Circle, Drawn, Line, Ordered, Paid, Square, make


class Odd(NotificationEvent, type="odd.v1", topic="odd"):
    what: complex


def made(broker: str = "memory://", **options: Any) -> dict[str, Any]:
    return document(make(broker), **options)


def test_channels_are_topics_with_all_their_messages() -> None:
    """Each topic that the app publishes to or reads is there once."""
    found = made()
    assert list(found["channels"]) == ["orders", "shapes"]
    assert list(found["channels"]["orders"]["messages"]) == ["Ordered", "Paid"]
    assert found["channels"]["orders"]["address"] == "orders"
    assert "servers" not in found


def test_operations_are_what_is_published_and_what_each_group_reads() -> None:
    """A message that is read and never raised is not sent; one without a handler in the group is not received."""
    operations = made()["operations"]
    read = {
        name: [one["$ref"].rpartition("/")[2] for one in operation["messages"]]
        for name, operation in operations.items()
    }
    assert read == {
        "send.orders": ["Ordered", "Paid"],
        "send.shapes": ["Drawn"],
        "receive.shop.orders": ["Ordered"],
        "receive.a_group_1.shapes": ["Drawn", "Packed"],
    }
    assert operations["receive.a_group_1.shapes"]["x-headrace-group"] == "a group/1"


def test_a_message_has_its_type_as_name_and_its_key() -> None:
    """The name on the wire, the first paragraph of the docstring, the field of the key, the request it belongs to."""
    message = made()["components"]["messages"]["Ordered"]
    assert message["name"] == "shop.ordered.v1"
    assert message["summary"] == "An order was placed."
    assert message["contentType"] == "application/json"
    assert message["x-headrace-key"] == "number"
    assert message["correlationId"] == {"$ref": "#/components/correlationIds/request"}


@pytest.mark.parametrize(
    ("broker", "prefix"),
    [
        ("memory://", ""),
        ("kafka://k1,k2:9093", "ce_"),
        ("amqp://u:secret@rabbit/shop", "cloudEvents:"),
        ("nats://n", "ce-"),
        ("redis://u:secret@r/2", "ce_"),
    ],
)
def test_headers_are_those_of_the_protocol(broker: str, prefix: str) -> None:
    """CloudEvents in binary mode; the correlation id is found in them; no password is in the document."""
    found = made(broker)
    components = found["components"]
    headers = components["schemas"]["CloudEventsHeaders"]
    assert headers["required"] == [f"{prefix}{n}" for n in ("specversion", "id", "source", "type")]
    own = components["messages"]["Ordered"]["headers"]["allOf"][1]
    assert own["properties"] == {f"{prefix}type": {"const": "shop.ordered.v1"}}
    location = components["correlationIds"]["request"]["location"]
    assert location == f"$message.header#/{prefix}correlationid"
    assert "secret" not in json.dumps(found)


def test_kafka_has_topics_groups_and_keys() -> None:
    """As its bindings name them."""
    found = made("kafkas://k1,k2:9093?prefix=eu.")
    assert found["servers"]["broker"] == {"host": "k1:9092", "protocol": "kafka-secure"}
    assert found["servers"]["broker-2"]["host"] == "k2:9093"
    channel = found["channels"]["orders"]
    assert channel["address"] == "eu.orders"
    assert channel["bindings"]["kafka"]["partitions"] == 4
    operation = found["operations"]["receive.a_group_1.shapes"]
    assert operation["bindings"]["kafka"]["groupId"] == {"type": "string", "const": "a group/1"}
    messages = found["components"]["messages"]
    assert messages["Ordered"]["bindings"]["kafka"]["key"]["type"] == "string"
    assert "bindings" not in messages["Drawn"]


def test_rabbitmq_has_exchanges_routing_keys_and_queues() -> None:
    """The exchange is the topic, the routing key is the partition, each group has a queue for it."""
    found = made("amqps://u:p@rabbit/shop")
    server = {"host": "rabbit:5671", "protocol": "amqps", "pathname": "/shop"}
    assert found["servers"] == {"broker": server}
    channel = found["channels"]["orders"]
    assert channel["address"] == "{partition}"
    assert channel["parameters"]["partition"]["enum"] == ["0", "1", "2", "3"]
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "orders"
    assert channel["bindings"]["amqp"]["exchange"]["vhost"] == "shop"
    queue = found["operations"]["receive.shop.orders"]["x-headrace-queue"]
    assert queue == "shop.orders.{partition}"


def test_nats_has_a_subject_and_redis_a_stream_for_each_partition() -> None:
    """Braces in the name of a stream are no parameters, so they become one with a single value."""
    assert made("nats://n")["channels"]["orders"]["address"] == "orders.{partition}"
    channel = made("redis://r")["channels"]["orders"]
    assert channel["address"] == "headrace:{name1}:{partition}"
    assert channel["parameters"]["name1"]["enum"] == ["{orders}"]


def test_servers_may_be_given() -> None:
    """What the app connects to is not always what others connect to."""
    public = {"public": {"host": "events.example.com", "protocol": "kafka-secure"}}
    assert made("kafka://internal", servers=public)["servers"] == public


def test_requests_are_there_when_asked_for() -> None:
    """In a channel without an address: they never leave the process."""
    assert "requests" not in made()["channels"]
    found = made(requests=True, title="Shop", version="2.1.0", description="All of it.")
    assert found["channels"]["requests"]["address"] is None
    assert found["operations"]["handle.Find"]["summary"] == "shop handles the query Find"
    assert found["info"] == {"title": "Shop", "version": "2.1.0", "description": "All of it."}


def test_a_description_is_enough() -> None:
    """Without the app its broker is not known: addresses are the topics' names."""
    found = document(make("kafka://k?prefix=eu.").describe())
    assert_type(found, dict[str, object])
    channels = msgspec.convert(found["channels"], dict[str, dict[str, Any]])
    assert channels["orders"]["address"] == "orders"


def test_handlers_that_do_not_declare_what_they_raise_are_named() -> None:
    """So that nobody takes the document for complete (G13)."""
    module = Module("m")

    @module.handler
    async def ordered(event: Ordered, events: Events) -> None:
        pass

    found = document(Headrace("a", modules=[module], broker="memory://"))
    (name,) = msgspec.convert(found["x-headrace-undeclared"], list[str])
    assert name.endswith("ordered")
    assert "x-headrace-undeclared" not in made()


def _instances() -> list[object]:
    uuid = UUID(int=7)
    lines = [Line("pen", 2)]
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    home = Address(streetName="High Street")
    return [
        Ordered("o1", lines, (1, "a"), uuid, at, Decimal("1.50"), by=home, raw=b"\x00"),
        Paid(number="o1", onDay=date(2026, 1, 31), address=home),
        Drawn(main_shape=Circle(1.5), all_shapes=(Square(2.0),)),
    ]


@pytest.mark.parametrize("event", _instances(), ids=lambda event: type(event).__name__)
def test_schemas_fit_what_the_codec_writes(event: object) -> None:
    """Every field that is in the body is in the schema, and every field that it requires is in the body."""
    schemas = made()["components"]["schemas"]
    body = json.loads(JsonCodec().encode(event))
    schema = schemas[type(event).__name__]
    assert set(body) <= set(schema["properties"])
    assert set(schema["required"]) <= set(body)


def test_schemas_are_of_draft_7() -> None:
    """Tuples are `items`, a reference stands alone, and a field that is named like a word of the dialect is a field."""
    schemas = made()["components"]["schemas"]
    ordered = schemas["Ordered"]["properties"]
    assert ordered["place"]["items"] == [{"type": "integer"}, {"type": "string"}]
    assert ordered["place"]["additionalItems"] is False
    assert ordered["prefixItems"] == {"type": "array", "items": {"type": "integer"}}
    size = {"allOf": [{"$ref": "#/components/schemas/Size"}], "default": "small"}
    assert schemas["Line"]["properties"]["size"] == size
    assert schemas["Paid"]["properties"]["pair"]["items"][0] == {"type": "integer"}
    assert "discriminator" not in schemas["Drawn"]["properties"]["mainShape"]
    assert schemas["Drawn"]["properties"]["anything"]["description"] == "Any value."


def test_two_classes_of_one_name_have_two_schemas() -> None:
    """In the document the second has its module in its name, and refers to its own parts."""
    inner = msgspec.defstruct("Inner", [("a", int)])
    other = msgspec.defstruct("Ordered", [("inner", inner)], module="elsewhere")
    schemas = Schemas()
    first, second = schemas.of(Ordered), schemas.of(other)
    assert first == {"$ref": "#/components/schemas/Ordered"}
    assert second == {"$ref": "#/components/schemas/elsewhere.Ordered"}
    properties = schemas.components["elsewhere.Ordered"]["properties"]
    assert properties == {"inner": {"$ref": "#/components/schemas/elsewhere.Ordered.Inner"}}
    assert "elsewhere.Ordered.Inner" in schemas.components


def test_a_class_without_a_form_in_json_is_told_as_such() -> None:
    """The document is made all the same, and says what it does not know."""
    module = Module("m")

    @module.handler(raises=[])
    async def odd(event: Odd) -> None:
        pass

    found = document(Headrace("a", modules=[module], broker="memory://"))
    components = msgspec.convert(found["components"], dict[str, dict[str, Any]])
    assert "is not known" in components["schemas"]["Odd"]["description"]


def test_yaml_says_the_same_as_json() -> None:
    """Read by a library for YAML it is the same document."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    found = made("redis://r", requests=True)
    assert yaml.safe_load(to_yaml(found)) == json.loads(json.dumps(found))
    odd = {"no": "yes", "a": ["1.0", "x: y", "", "-", "tab\t", "ü"], "e": {}, "f": [], "n": None}
    assert yaml.safe_load(to_yaml(odd)) == odd
