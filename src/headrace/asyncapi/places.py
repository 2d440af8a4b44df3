"""Servers and channels of an AsyncAPI document: where messages are, in the words of each protocol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from headrace.asyncapi.schemas import Schema

if TYPE_CHECKING:
    from headrace.broker import Wire
    from headrace.description import TopicInfo

KAFKA_BINDING: Final = "0.5.0"
AMQP_BINDING: Final = "0.3.0"

_MARK: Final = "\0"  # stands for the partition while an address is made: no name has it


def servers(wire: Wire | None) -> dict[str, Schema]:
    """The broker's servers, without anything secret."""
    if wire is None:
        return {}
    found: dict[str, Schema] = {}
    for number, host in enumerate(wire.servers, start=1):
        server: Schema = {"host": host, "protocol": wire.protocol}
        if wire.path.strip("/"):
            server["pathname"] = f"/{wire.path.strip('/')}"
        found["broker" if number == 1 else f"broker-{number}"] = server
    return found


def channel(topic: TopicInfo, wire: Wire | None) -> Schema:
    """A topic as a channel, without its messages."""
    if wire is None:
        return {"address": topic.name, "title": topic.name}
    address, parameters = _address(wire, topic)
    found: Schema = {"address": address, "title": topic.name}
    if parameters:
        found["parameters"] = parameters
    bindings = _channel_bindings(topic, wire)
    if bindings:
        found["bindings"] = bindings
    return found


def _address(wire: Wire, topic: TopicInfo) -> tuple[str, Schema]:
    """With braces for the partition alone: others, which a name may have, become a parameter with one value."""
    parameters: Schema = {}
    whole = wire.address(topic.name, _MARK)

    def fixed(found: re.Match[str]) -> str:
        name = f"name{len(parameters) + 1}"
        parameters[name] = {
            "enum": [found[0]],
            "default": found[0],
            "description": "A part of the name, with the braces.",
        }
        return f"{{{name}}}"

    address = re.sub(r"\{[^{}]*\}", fixed, whole)
    if _MARK in address:
        parameters["partition"] = _partition(topic)
        address = address.replace(_MARK, "{partition}")
    return address, parameters


def _partition(topic: TopicInfo) -> Schema:
    found: Schema = {
        "description": "From 0: the murmur2 hash of the key, as Kafka's clients have it, modulo the number of partitions."
    }
    if topic.partitions is not None and topic.partitions <= _FEW:
        found["enum"] = [str(number) for number in range(topic.partitions)]
    return found


_FEW: Final = 64  # beyond it a list of numbers tells nobody anything


def _channel_bindings(topic: TopicInfo, wire: Wire) -> Schema:
    if wire.protocol.startswith("kafka"):
        kafka: Schema = {"topic": wire.address(topic.name, "")}
        if topic.partitions is not None:
            kafka["partitions"] = topic.partitions
        return {"kafka": {**kafka, "bindingVersion": KAFKA_BINDING}}
    if wire.exchange is not None:
        exchange = {
            "name": wire.exchange(topic.name),
            "type": "direct",
            "durable": True,
            "autoDelete": False,
            "vhost": wire.path or "/",
        }
        return {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": AMQP_BINDING}}
    return {}


def send_bindings(wire: Wire | None) -> Schema:
    """What is particular to publishing."""
    if wire is None or wire.exchange is None:
        return {}
    return {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": AMQP_BINDING}}


def receive_bindings(wire: Wire | None, group: str) -> Schema:
    """What is particular to a group's reading."""
    if wire is None:
        return {}
    if wire.protocol.startswith("kafka"):
        group_id = {"type": "string", "const": group}
        return {"kafka": {"groupId": group_id, "bindingVersion": KAFKA_BINDING}}
    if wire.exchange is not None:
        return {"amqp": {"ack": True, "bindingVersion": AMQP_BINDING}}
    return {}


def message_bindings(wire: Wire | None, *, keyed: bool) -> Schema:
    """What is particular to each message."""
    if wire is None or not wire.protocol.startswith("kafka") or not keyed:
        return {}
    key = {"type": "string", "description": "The key, as UTF-8. Empty for an event without order."}
    return {"kafka": {"key": key, "bindingVersion": KAFKA_BINDING}}
